//! nginx (Debian package nginx-light) as a node: a process that can be killed, stopped and started.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::eventually;
use crate::port::Reserved;

/// A node that answers every request with its name. Its port is its own, also while it is dead.
#[derive(Debug)]
pub struct Nginx {
    folder: tempfile::TempDir,
    port: Reserved,
    process: Option<Child>,
}

impl Nginx {
    /// Starts a node, and waits until it listens.
    #[track_caller]
    pub fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = Reserved::new();
        let text = configuration(folder.path(), port.addr(), name);
        std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let mut nginx = Self { folder, port, process: None };
        nginx.restart();
        eventually("nginx listens", || TcpStream::connect(nginx.addr()).is_ok());
        nginx
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Its address as a key of `nodes`.
    pub fn node(&self) -> String {
        self.addr().to_string()
    }

    /// Starts it, unless it runs. Does not wait until it listens.
    #[track_caller]
    pub fn restart(&mut self) {
        if self.process.is_some() {
            return;
        }
        let folder = self.folder.path();
        let process = Command::new("/usr/sbin/nginx")
            .args(["-c".as_ref(), folder.join("nginx.conf").as_os_str()])
            .args(["-p".as_ref(), folder.as_os_str()])
            .args(["-e".as_ref(), folder.join("error.log").as_os_str()])
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("nginx (Debian package nginx-light): {error}"));
        self.process = Some(process);
    }

    /// Kills it, and waits until nothing of it is left.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// It stands still: the kernel goes on taking connections and what is sent on them.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(process) = &self.process {
            // SAFETY: no pointers; the group is that of a child that has not been waited for.
            unsafe { libc::kill(-(process.id() as libc::pid_t), signal) };
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}

fn configuration(folder: &Path, listen: SocketAddr, name: &str) -> String {
    let folder = folder.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp = kinds.map(|kind| format!("{kind}_temp_path {folder}/{kind};\n")).concat();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{\n{temp}access_log off;\n\
         server {{ listen {listen}; location / {{ return 200 {name}; }} }}\n}}\n"
    )
}
