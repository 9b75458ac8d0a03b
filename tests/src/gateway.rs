//! A running gateway.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::admin::Api;
use crate::client::Client;
use crate::config::{Config, Ended, document, run_in};
use crate::logfile::Lines;
use crate::wire::Message;
use crate::{FAILSAFE, eventually};

/// A gateway's process. Killed when dropped; a panic in it fails the test then.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    child: Child,
    log: Lines,
}

impl Gateway {
    #[track_caller]
    pub(crate) fn start(config: Config) -> Self {
        let gateway = Self::spawn(config);
        gateway.log.wait_for(&["osmia is ready"]);
        gateway
    }

    pub(crate) fn spawn(config: Config) -> Self {
        config.write();
        let mut command = config.command("start");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::follow(child.stderr.take().unwrap());
        Self { config, child, log }
    }

    /// Kills it at once and starts it again as it was, without waiting for it to be ready.
    #[track_caller]
    pub fn kill_and_restart(&mut self) {
        if self.is_running() {
            self.signal(libc::SIGKILL);
            self.wait();
        }
        let mut command = self.config.command("start");
        self.child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        self.log = Lines::follow(self.child.stderr.take().unwrap());
    }

    /// Runs `osmia config` in its directory, on its Admin API, with the admin key.
    pub fn cli(&self, arguments: &[&str]) -> Ended {
        self.command("config", arguments)
    }

    /// Runs another command that goes to the Admin API.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Ended {
        let admin = format!("http://{}", self.admin().addr);
        let access = [name, "--admin", &admin, "--key", crate::admin::KEY];
        run_in(self.config.directory.path(), &[&access[..], arguments].concat())
    }

    /// Its Admin API.
    pub fn admin(&self) -> Api {
        Api { addr: self.api(0) }
    }

    /// Its Control API.
    pub fn control(&self) -> Api {
        Api { addr: self.api(1) }
    }

    /// Its status endpoint.
    pub fn status(&self) -> Api {
        Api { addr: self.api(2) }
    }

    fn api(&self, index: usize) -> SocketAddr {
        let apis = self.config.apis.as_ref().expect("Config::plane");
        (Ipv4Addr::LOCALHOST, apis[index].port()).into()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.config.port()).into()
    }

    /// Where it listens with TLS.
    pub fn tls_addr(&self) -> SocketAddr {
        let port = self.config.tls_port.as_ref().expect("Config::tls");
        (Ipv4Addr::LOCALHOST, port.port()).into()
    }

    /// A new connection to it.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// The response to a `GET` on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Message {
        self.client().get(target)
    }

    /// Its messages.
    pub fn log(&self) -> &Lines {
        &self.log
    }

    /// What it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.config.file(name)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: no pointers; the process is a child that has not been waited for.
        let result = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Replaces `apisix.yaml` in one step.
    pub fn write_routes(&self, routes: &[Value]) {
        self.write_standalone(&document(routes, &[]));
    }

    /// Replaces `apisix.yaml` by `text` in one step.
    pub fn write_standalone(&self, text: &str) {
        let fresh = self.file("apisix.yaml.new");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.file("apisix.yaml")).unwrap();
    }

    /// Whether it is running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for it to end; its status and its messages.
    #[track_caller]
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + FAILSAFE;
        let mut status = None;
        eventually("the gateway has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some() || Instant::now() > deadline
        });
        (status.expect("an end"), self.log.all())
    }

    /// Tells it to stop, and waits until it has; its messages.
    #[track_caller]
    pub fn stop(&mut self) -> String {
        self.signal(libc::SIGTERM);
        let (status, log) = self.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory that was ever resident, in bytes.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log.all();
        if std::thread::panicking() {
            if let Ok(Some(status)) = ended {
                eprintln!("--- the gateway had ended: {status}");
            }
            eprintln!("--- the gateway's messages:\n{log}");
        } else {
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}
