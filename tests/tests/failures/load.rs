//! Real clients: `wrk` for HTTP/1.1, `h2load` for HTTP/2.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};

use osmia_tests::Gateway;

/// A client that runs for a while. Killed when dropped.
pub(crate) struct Load {
    child: Option<Child>,
    _script: tempfile::NamedTempFile,
}

impl Load {
    /// `wrk`: requests of `method` on `paths` in turn, each with a query of its own (`k`), on 32
    /// connections.
    #[track_caller]
    pub(crate) fn wrk(gateway: &Gateway, paths: &[String], method: &str, seconds: u32) -> Self {
        let paths = paths.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", ");
        let body = if method == "POST" { "\"body\"" } else { "nil" };
        let script = file(&format!(
            "local paths = {{ {paths} }}\nlocal count = 0\nrequest = function()\n\
             count = count + 1\n\
             local path = paths[count % #paths + 1] .. \"?k=\" .. count\n\
             return wrk.format(\"{method}\", path, nil, {body})\nend\n"
        ));
        let mut command = Command::new("wrk");
        command
            .args(["-t1", "-c32", "--timeout", "25s", &format!("-d{seconds}s"), "-s"])
            .arg(script.path())
            .arg(format!("http://{}/", gateway.addr()));
        Self::start(command, script)
    }

    /// `h2load`: eight streams on each of two connections.
    #[track_caller]
    pub(crate) fn h2load(gateway: &Gateway, paths: &[String], seconds: u32) -> Self {
        let mut urls = String::new();
        for (number, path) in (0..240).zip(paths.iter().cycle()) {
            writeln!(urls, "http://{}{path}?k={number}", gateway.addr()).unwrap();
        }
        let list = file(&urls);
        let mut command = Command::new("h2load");
        command.args(["-c2", "-m8", &format!("-D{seconds}"), "-i"]).arg(list.path());
        Self::start(command, list)
    }

    #[track_caller]
    fn start(mut command: Command, script: tempfile::NamedTempFile) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = command.get_program().to_owned();
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", name.display()));
        Self { child: Some(child), _script: script }
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        let child = self.child.as_mut().expect("a load that has not ended");
        child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; what it printed.
    #[track_caller]
    pub(crate) fn report(mut self) -> String {
        let child = self.child.take().expect("a load that has not ended");
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        let text = text.concat();
        assert!(output.status.success(), "{text}");
        text
    }

    /// Waits for its end. It has seen nothing but success.
    #[track_caller]
    pub(crate) fn succeeds(self) {
        let text = self.report();
        eprintln!("{text}");
        if text.contains("h2load") || text.contains("succeeded") {
            assert!(text.contains(" 0 failed, 0 errored, 0 timeout"), "{text}");
            assert!(text.contains(" 0 3xx, 0 4xx, 0 5xx"), "{text}");
            assert!(!text.contains(" 0 2xx"), "{text}");
        } else {
            assert!(!text.contains("Socket errors"), "{text}");
            assert!(!text.contains("Non-2xx or 3xx responses"), "{text}");
            assert!(text.contains(" requests in ") && !text.contains(" 0 requests in "), "{text}");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}
