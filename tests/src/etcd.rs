//! etcd processes of a test's own, and the faults they can have.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use osmia_core::settings::EtcdSettings;
use tempfile::TempDir;

use crate::eventually;
use crate::port::Reserved;

/// A gateway's settings for some endpoints, otherwise the defaults of `config.yaml`.
pub fn settings(endpoints: &[String]) -> EtcdSettings {
    EtcdSettings {
        endpoints: endpoints.to_vec(),
        prefix: "/apisix".to_owned(),
        credentials: None,
        timeout: Duration::from_secs(30),
        client_certificate: None,
        verify: true,
        server_name: None,
        trusted: None,
        accept_empty: false,
    }
}

/// How long [`Etcd::try_write`] waits for a member that may be stopped.
const PATIENCE: Duration = Duration::from_millis(500);

/// Files of a certificate authority, a server's certificate for 127.0.0.1 and `etcd.test`, and a
/// client's; made by openssl.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes them.
    pub fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Self { directory };
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        certificates.openssl(&format!("{new} -subj /CN=authority -keyout ca.key -out ca.crt"));
        let names = "subjectAltName=IP:127.0.0.1,DNS:etcd.test";
        for (name, extension) in [("server", names), ("client", "extendedKeyUsage=clientAuth")] {
            certificates.openssl(&format!(
                "{new} -subj /CN={name} -addext {extension} -addext basicConstraints=CA:FALSE \
                 -CA ca.crt -CAkey ca.key -keyout {name}.key -out {name}.crt"
            ));
        }
        certificates
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `ca.crt`, `server.crt`, `server.key`, `client.crt` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// One etcd process (or, stopped, what is left of it) on ports and in a directory of its own.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Child>,
    directory: TempDir,
    client: Reserved,
    peer: Reserved,
    scheme: &'static str,
    arguments: Vec<String>,
    /// Arguments of etcdctl.
    access: Vec<String>,
}

impl Etcd {
    /// A cluster of one.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A cluster of one with further arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut etcd = Self::prepare("http", arguments);
        etcd.restart();
        etcd
    }

    /// A cluster of one that speaks TLS; `mutual`: to clients with a certificate only.
    pub fn start_tls(certificates: &Certificates, mutual: bool) -> Self {
        let file = |name: &str| certificates.file(name).to_string_lossy().into_owned();
        let mut arguments = vec![
            format!("--cert-file={}", file("server.crt")),
            format!("--key-file={}", file("server.key")),
        ];
        let mut access = vec![format!("--cacert={}", file("ca.crt"))];
        if mutual {
            arguments.push("--client-cert-auth".to_owned());
            arguments.push(format!("--trusted-ca-file={}", file("ca.crt")));
            access.push(format!("--cert={}", file("client.crt")));
            access.push(format!("--key={}", file("client.key")));
        }
        let mut etcd = Self::prepare("https", &[]);
        etcd.arguments.extend(arguments);
        etcd.access = access;
        etcd.restart();
        etcd
    }

    /// A cluster of several members.
    pub fn cluster(size: usize) -> Vec<Self> {
        let mut members: Vec<Self> = (0..size).map(|_| Self::prepare("http", &[])).collect();
        let peers: Vec<String> = members
            .iter()
            .map(|member| format!("{}={}", member.name(), member.peer_url()))
            .collect();
        for member in &mut members {
            member.arguments.push(format!("--initial-cluster={}", peers.join(",")));
            member.spawn();
        }
        for member in &members {
            member.await_healthy();
        }
        members
    }

    fn prepare(scheme: &'static str, arguments: &[&str]) -> Self {
        Self {
            process: None,
            directory: tempfile::tempdir().unwrap(),
            client: Reserved::new(),
            peer: Reserved::new(),
            scheme,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            access: Vec::new(),
        }
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.client.addr())
    }

    /// The address for clients, as `host:port`.
    pub fn addr(&self) -> SocketAddr {
        self.client.addr()
    }

    fn peer_url(&self) -> String {
        format!("http://{}", self.peer.addr())
    }

    fn name(&self) -> String {
        format!("member-{}", self.peer.port())
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A path in the directory of this process that lives as long as it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(self.file("log")).unwrap();
        let flags = [
            format!("--name={}", self.name()),
            format!("--data-dir={}", self.data().display()),
            format!("--listen-client-urls={}", self.url()),
            format!("--advertise-client-urls={}", self.url()),
            format!("--listen-peer-urls={}", self.peer_url()),
            format!("--initial-advertise-peer-urls={}", self.peer_url()),
        ];
        let mut command = Command::new("etcd");
        command.args(flags);
        if !self.arguments.iter().any(|argument| argument.starts_with("--initial-cluster=")) {
            command.arg(format!("--initial-cluster={}={}", self.name(), self.peer_url()));
            // It elects itself the sooner; alone it cannot lose an election.
            command.args(["--heartbeat-interval=20", "--election-timeout=200"]);
        }
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().expect("etcd is installed (make test does)"));
    }

    /// Starts it again, with the data that is there, and waits until it serves.
    pub fn restart(&mut self) {
        self.spawn();
        self.await_healthy();
    }

    /// Waits until it serves.
    pub fn await_healthy(&self) {
        eventually("etcd serves", || self.try_ctl(["endpoint", "health"]).is_ok());
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = self.process.as_ref().expect("it runs").id();
        // SAFETY: no pointers; the process is a child that has not been waited for.
        let result = unsafe { libc::kill(pid as libc::pid_t, signal) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.process.take().unwrap().wait().unwrap();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Forgets everything. It must not be running.
    pub fn wipe(&self) {
        assert!(self.process.is_none(), "it runs");
        fs::remove_dir_all(self.data()).unwrap();
    }

    /// Writes a snapshot of the data.
    pub fn snapshot(&self, file: &Path) {
        self.ctl([OsStr::new("snapshot"), OsStr::new("save"), file.as_os_str()]);
    }

    /// Replaces the data by those of a snapshot. It must not be running.
    pub fn restore(&self, file: &Path) {
        self.wipe();
        let arguments = [
            format!("--name={}", self.name()),
            format!("--data-dir={}", self.data().display()),
            format!("--initial-cluster={}={}", self.name(), self.peer_url()),
            format!("--initial-advertise-peer-urls={}", self.peer_url()),
        ];
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(file).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The current revision.
    pub fn revision(&self) -> u64 {
        let answer = self.ctl(["get", "the-header-is-enough", "-w", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["header"]["revision"].as_u64().unwrap()
    }

    /// Removes the history before the current revision.
    pub fn compact(&self) {
        self.ctl(["compact", &self.revision().to_string()]);
    }

    /// From now on etcdctl logs in.
    pub fn log_in(&mut self, user: &str, password: &str) {
        self.access.push(format!("--user={user}:{password}"));
    }

    /// Runs etcdctl and gives its output; it must succeed.
    #[track_caller]
    pub fn ctl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        self.try_ctl(arguments).unwrap_or_else(|error| panic!("etcdctl: {error}"))
    }

    /// Runs etcdctl and gives its output, or what it complained about.
    pub fn try_ctl<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, String> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.url()))
            .args(&self.access)
            .args(arguments)
            .output()
            .expect("etcdctl is installed (make test does)");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Writes a key through the member's JSON gateway, or deletes it (`None`), and tells whether the
    /// member said that it did. Unlike [`Etcd::ctl`] it starts no process.
    pub fn try_write(&self, key: &str, value: Option<&str>) -> bool {
        let encode = |text: &str| STANDARD.encode(text);
        let (path, body) = match value {
            Some(value) => ("put", serde_json::json!({"key": encode(key), "value": encode(value)})),
            None => ("deleterange", serde_json::json!({"key": encode(key)})),
        };
        let (body, host) = (body.to_string(), self.addr());
        let request = format!(
            "POST /v3/kv/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect_timeout(&host, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        exchange().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
    }

    /// Keys and values below a prefix. Neither may contain a line feed.
    pub fn contents(&self, prefix: &str) -> BTreeMap<String, String> {
        let output = self.ctl(["get", "--prefix", prefix]);
        let mut lines = output.lines().map(str::to_owned);
        std::iter::from_fn(|| Some((lines.next()?, lines.next()?))).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill(); // works on a stopped process as well
            let _ = process.wait();
            if std::thread::panicking() {
                let log = fs::read_to_string(self.file("log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(15).collect();
                eprintln!("etcd's last lines, newest first:\n{}", last.join("\n"));
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    Stalled,
    Cut,
}

#[derive(Debug)]
struct RelayState {
    line: Mutex<(Line, Vec<TcpStream>)>,
    changed: Condvar,
}

/// A line to etcd that can be cut, and that can go silent.
#[derive(Debug)]
pub struct Relay {
    addr: SocketAddr,
    state: Arc<RelayState>,
}

impl Relay {
    /// A line to `upstream`.
    pub fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let line = Mutex::new((Line::Open, Vec::new()));
        let state = Arc::new(RelayState { line, changed: Condvar::new() });
        let own = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if Arc::strong_count(&own) == 1 {
                    return; // nobody can ask for the address any more
                }
                own.carry(client, upstream);
            }
        });
        Self { addr, state }
    }

    /// Where to connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Closes all connections, and new ones at once.
    pub fn cut(&self) {
        self.state.set(Line::Cut);
    }

    /// Nothing passes any more, in either direction; connections stay.
    pub fn stall(&self) {
        self.state.set(Line::Stalled);
    }

    /// Ends [`Relay::cut`] or [`Relay::stall`]. What was held up passes now.
    pub fn resume(&self) {
        self.state.set(Line::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

impl RelayState {
    fn set(&self, line: Line) {
        let mut state = self.line.lock().unwrap();
        state.0 = line;
        if line == Line::Cut {
            for stream in state.1.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    fn carry(self: &Arc<Self>, client: TcpStream, upstream: SocketAddr) {
        let mut state = self.line.lock().unwrap();
        if state.0 == Line::Cut {
            return;
        }
        let Ok(server) = TcpStream::connect(upstream) else { return };
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let own = Arc::clone(self);
            std::thread::spawn(move || own.pump(from, to));
        }
        state.1.extend([client, server]);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut part = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut part) {
            let stalled = |state: &mut (Line, _)| state.0 == Line::Stalled;
            drop(self.changed.wait_while(self.line.lock().unwrap(), stalled));
            if to.write_all(&part[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

/// An address on which nobody listens, as long as the value lives.
pub fn nobody() -> Reserved {
    Reserved::new()
}

/// An address that takes connections and never says a word, as long as the value lives.
pub fn silent() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
