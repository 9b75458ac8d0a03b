//! nginx as the peer: its own folder, one process, a socket per server block.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use osmia_tests::rawhttp::{self, Message, Read};

use crate::{PATIENCE, Upstream, Verdict};

/// A running nginx in front of an [`Upstream`].
pub(crate) struct Nginx {
    process: Child,
    folder: tempfile::TempDir,
    upstream: Upstream,
}

impl Nginx {
    /// Starts it, and waits until it answers.
    pub(crate) fn start() -> Self {
        // Versions differ in what they take; shown when a test fails.
        let version = Command::new(nginx_binary()).arg("-v").output();
        println!("{}", version.map(|v| String::from_utf8_lossy(&v.stderr).into_owned()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start();
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, nginx_config(folder.path(), upstream.addr)).unwrap();
        let process = Command::new(nginx_binary())
            .arg("-c")
            .arg(&config)
            .arg("-p")
            .arg(folder.path())
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nginx (Debian package nginx-light): {error}"));
        let mut nginx = Self { process, folder, upstream };
        nginx.wait_until_ready();
        nginx
    }

    fn wait_until_ready(&mut self) {
        let log = self.folder.path().join("error.log");
        for _ in 0..PATIENCE.as_millis() / 10 {
            if UnixStream::connect(self.socket("path")).is_ok() {
                return;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("nginx: {status}: {}", std::fs::read_to_string(log).unwrap_or_default());
            }
            // nginx has no way to say that it is ready.
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nginx does not get ready");
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A connection to the server block `front`, which proxies, or `path`, which answers with what
    /// it makes of the target.
    pub(crate) fn connect(&self, name: &str) -> UnixStream {
        let stream = UnixStream::connect(self.socket(name)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// `$uri` and `$args`, with a line end between; `None`: the target is refused.
    pub(crate) fn normalise(&self, target: &str) -> Option<Vec<u8>> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut stream = self.connect("path");
        stream.write_all(request.as_bytes()).unwrap();
        let mut output = Vec::new();
        stream.read_to_end(&mut output).unwrap();
        let Read::Whole(message, _) = rawhttp::read(&output) else { panic!("{output:?}") };
        (message.status() == Some(200)).then_some(message.body)
    }

    /// Sends `input` on a connection of its own, and says no more.
    pub(crate) fn verdict(&self, input: &[u8]) -> Verdict {
        let mut stream = self.connect("front");
        // nginx may have refused and closed before all is written.
        let _ = stream.write_all(input);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut output = Vec::new();
        match stream.read_to_end(&mut output) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nginx hangs on {}", input.escape_ascii())
            }
            _ => {}
        }
        Verdict { statuses: statuses(&output), seen: self.upstream.take() }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Final statuses in what a client received; a response without status line is one of HTTP/0.9.
pub(crate) fn statuses(output: &[u8]) -> Vec<u16> {
    let (messages, rest) = rawhttp::read_all(output);
    let mut statuses: Vec<_> =
        messages.iter().filter_map(Message::status).filter(|status| *status >= 200).collect();
    if !rest.is_empty() {
        statuses.push(9);
    }
    statuses
}

fn nginx_binary() -> &'static str {
    if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" }
}

/// As APISIX configures nginx, as far as it matters here. It serves as one process, and goes on
/// when the client has said all it has to say.
fn nginx_config(folder: &Path, upstream: SocketAddr) -> String {
    let folder = folder.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp_paths = kinds.map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n")).concat();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n{temp_paths}\
           access_log off;\n\
           underscores_in_headers on;\n\
           client_max_body_size 0;\n\
           proxy_ignore_client_abort on;\n\
           lingering_close off;\n\
           server {{\n\
             listen unix:{folder}/front;\n\
             location / {{\n\
               proxy_pass http://{upstream};\n\
               proxy_http_version 1.1;\n\
               proxy_set_header Host $http_host;\n\
               proxy_set_header Connection '';\n\
             }}\n\
           }}\n\
           server {{\n\
             listen unix:{folder}/path;\n\
             location / {{ return 200 \"$uri\\n$args\"; }}\n\
           }}\n\
         }}\n"
    )
}
