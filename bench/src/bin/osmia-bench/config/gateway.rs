//! The gateway under measurement: how it is started, asked and looked at.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::data::Data;
use crate::child::{self, Running};
use crate::contender::Contender;
use crate::http::{self, Client};
use crate::machine::Cores;
use crate::programs::Programs;

/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks at a gateway that starts.
const POLL: Duration = Duration::from_millis(1);
/// The key of its Admin API.
const ADMIN_KEY: &str = "key-of-the-benchmark";
/// Connections per worker that make it all but certain that each worker has one.
const PER_WORKER: usize = 8;

/// Where the gateway's configuration is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// In the etcd at this URL.
    Etcd(&'a str),
    /// In the embedded store of this data directory.
    Embedded(&'a Path),
    /// These resources, in a standalone `apisix.yaml`.
    File(&'a Value),
}

/// A gateway. Dropping it ends it.
pub(crate) struct Gateway {
    running: Running,
    /// When it was executed.
    begun: Instant,
    workers: usize,
    pub(crate) traffic: SocketAddr,
    pub(crate) admin: SocketAddr,
    status: SocketAddr,
    /// Removed when the gateway has ended: fields are dropped in this order.
    _dir: tempfile::TempDir,
}

/// Memory and processor time of a start.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Start {
    /// From exec to the first 200 through a route, in milliseconds.
    pub(crate) first_ms: f64,
    /// From exec until every worker has its snapshot, in milliseconds.
    pub(crate) ready_ms: f64,
    /// Processor time until then, in milliseconds.
    pub(crate) cpu_ms: f64,
    /// Resident set a second later, in MiB.
    pub(crate) rss_mib: f64,
    /// Its highest value until then, in MiB.
    pub(crate) peak_mib: f64,
}

impl Gateway {
    /// Executes it, and does not wait for it. Its workers are pinned to the first cores, the proxy
    /// core before all; its other threads go where the system puts them, as in production.
    pub(crate) fn launch(
        programs: &Programs,
        cores: &Cores,
        workers: usize,
        source: Source<'_>,
    ) -> Result<Self> {
        let dir = child::scratch()?;
        let mut ports = [0; 4];
        for at in 0..ports.len() {
            ports[at] = http::free_port()?;
            // The system may name one again that nobody has taken yet.
            while ports[..at].contains(&ports[at]) {
                ports[at] = http::free_port()?;
            }
        }
        let mut usable = vec![cores.proxy];
        usable.extend(cores.load.iter().filter(|&&core| core != cores.proxy));
        ensure!(workers <= usable.len(), "{workers} workers on {} cores", usable.len());
        let config = settings(dir.path(), ports, &usable[..workers], source);
        if let Source::File(resources) = source {
            let text = format!("{resources}\n#END\n");
            fs::write(standalone(dir.path()), text).context("cannot write the resources")?;
        }
        let file = dir.path().join("config.yaml");
        // JSON is YAML.
        fs::write(&file, config.to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let program = programs.path(Contender::Osmia).context("no osmia")?;
        let mut command = Command::new(program);
        command.arg("start").arg("--config").arg(file).current_dir(dir.path());
        let output = dir.path().join("output.txt");
        let begun = Instant::now();
        let running = Running::start(command, &usable, &output)?;
        let [traffic, admin, _, status] =
            ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Ok(Self { running, begun, workers, traffic, admin, status, _dir: dir })
    }

    /// Waits until the traffic of `data` is answered and every worker has its snapshot; how long
    /// both took, from the execution on.
    pub(super) fn await_serving(&mut self, data: Data) -> Result<(Duration, Duration)> {
        let host = Data::host(data.traffic());
        let first = self.await_ok(self.traffic, &request(&host, "/bytes/1024"))?;
        let ready = self.await_ready()?;
        Ok((first, ready))
    }

    /// Waits until every worker has its first snapshot.
    pub(crate) fn await_ready(&mut self) -> Result<Duration> {
        self.await_ok(self.status, &request("status.test", "/status/ready"))
    }

    /// Waits until the Admin API answers, whatever is stored.
    pub(super) fn await_admin(&mut self) -> Result<Duration> {
        self.await_ok(self.admin, &admin_request(self.admin, "GET", "plugins/list", ""))
    }

    /// Waits for the first 200 to `request` and says how long it took, from the execution on.
    fn await_ok(&mut self, addr: SocketAddr, request: &str) -> Result<Duration> {
        let mut client = None;
        loop {
            match ask_again(&mut client, addr, request) {
                Ok(200) => return Ok(self.begun.elapsed()),
                Ok(_) => {}
                Err(_) => client = None,
            }
            if let Some(status) = self.running.ended() {
                bail!("the gateway ended ({status}):\n{}", self.last_words());
            }
            if self.begun.elapsed() > START_LIMIT {
                bail!("no 200 within {START_LIMIT:?} to {request:?}:\n{}", self.last_words());
            }
            thread::sleep(POLL);
        }
    }

    /// Measures the start of a gateway that has just been launched.
    pub(super) fn measure_start(&mut self, data: Data) -> Result<Start> {
        let (first, ready) = self.await_serving(data)?;
        let cpu_ms = self.cpu()?.as_secs_f64() * 1e3;
        thread::sleep(Duration::from_secs(1));
        let memory = self.running.group().memory();
        Ok(Start {
            first_ms: first.as_secs_f64() * 1e3,
            ready_ms: ready.as_secs_f64() * 1e3,
            cpu_ms,
            rss_mib: memory.rss as f64 / 1024.0,
            peak_mib: memory.peak as f64 / 1024.0,
        })
    }

    /// Processor time since it was executed, of threads that have ended as well.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        process_time(self.running.group().0)
    }

    /// Resident set, in MiB.
    pub(crate) fn rss_mib(&self) -> f64 {
        self.running.group().memory().rss as f64 / 1024.0
    }

    /// The end of what it printed.
    pub(crate) fn last_words(&self) -> String {
        let text = self.running.printed();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Keep-alive connections that reach every worker.
    pub(super) fn watch(&self) -> Result<Watch> {
        let count = if self.workers == 1 { 1 } else { PER_WORKER * self.workers };
        let clients: std::io::Result<Vec<Client>> =
            (0..count).map(|_| Client::connect(self.traffic)).collect();
        Ok(Watch(clients?))
    }
}

/// Connections on which a change is looked for.
pub(super) struct Watch(Vec<Client>);

impl Watch {
    /// Asks in a tight loop until every connection gets 200, at most `limit`.
    pub(super) fn until_ok(&mut self, host: &str, path: &str, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        let request = request(host, path);
        let mut waiting: Vec<&mut Client> = self.0.iter_mut().collect();
        while !waiting.is_empty() {
            for client in &mut waiting {
                send(client, request.as_bytes())?;
            }
            let mut behind = Vec::new();
            for client in waiting {
                if receive(client)?.0 != 200 {
                    behind.push(client);
                }
            }
            waiting = behind;
            let asked = begun.elapsed();
            ensure!(asked < limit || waiting.is_empty(), "no effect after {asked:?}: {host}{path}");
        }
        Ok(())
    }
}

/// The gateway's own settings; `ports`: traffic, Admin API, Control API, status.
fn settings(dir: &Path, ports: [u16; 4], cores: &[usize], source: Source<'_>) -> Value {
    let at = |port: u16| json!({ "ip": "127.0.0.1", "port": port });
    let list = cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut deployment = json!({
        "role": "traditional",
        "admin": {
            "admin_key": [{ "name": "bench", "key": ADMIN_KEY, "role": "admin" }],
            "admin_listen": at(ports[1]),
        },
    });
    let data_dir = match source {
        Source::Etcd(url) => {
            deployment["role_traditional"] = json!({ "config_provider": "etcd" });
            deployment["etcd"] = json!({ "host": [url], "prefix": "/apisix" });
            dir.join("data")
        }
        Source::Embedded(directory) => {
            deployment["role_traditional"] = json!({ "config_provider": "embedded" });
            directory.to_owned()
        }
        Source::File(_) => {
            deployment = json!({
                "role": "data_plane",
                "role_data_plane": { "config_provider": "yaml" },
            });
            dir.join("data")
        }
    };
    let mut osmia = json!({ "cores": list, "keepalive_requests": 0, "data_dir": data_dir });
    if matches!(source, Source::File(_)) {
        osmia["standalone_file"] = json!(standalone(dir));
    }
    json!({
        "apisix": {
            "node_listen": [at(ports[0])], "control": at(ports[2]), "status": at(ports[3]),
            "ssl": { "enable": false },
        },
        "deployment": deployment,
        "nginx_config": {
            "worker_processes": cores.len(),
            "http": { "enable_access_log": false, "keepalive_timeout": "600s" },
        },
        "osmia": osmia,
    })
}

/// The file of [`Source::File`].
fn standalone(dir: &Path) -> std::path::PathBuf {
    dir.join("apisix.yaml")
}

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// The status of an answer, on the connection that is there or a new one.
fn ask_again(client: &mut Option<Client>, addr: SocketAddr, request: &str) -> Result<u16> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(addr)?),
    };
    send(client, request.as_bytes())?;
    Ok(receive(client)?.0)
}

/// A request to the Admin API; `path` is below `/apisix/admin`.
pub(super) fn admin_request(addr: SocketAddr, method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} /apisix/admin/{path} HTTP/1.1\r\nHost: {addr}\r\nX-API-KEY: {ADMIN_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks the Admin API; status and body of the answer.
pub(super) fn administer(
    client: &mut Client,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, Vec<u8>)> {
    let request = admin_request(client.host(), method, path, body);
    send(client, request.as_bytes())?;
    receive(client)
}

fn send(client: &mut Client, request: &[u8]) -> std::io::Result<()> {
    std::io::Write::write_all(client.writer(), request)
}

fn receive(client: &mut Client) -> Result<(u16, Vec<u8>)> {
    let head = client.head()?;
    let body = client.body(&head)?;
    Ok((head.status, body))
}

/// Processor time of a process, user and system, of all its threads, also of those that ended.
fn process_time(pid: u32) -> Result<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write to the given places, which live long enough, and nothing else.
    let refused = unsafe {
        let found = libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock);
        found != 0 || libc::clock_gettime(clock, &raw mut time) != 0
    };
    ensure!(!refused, "process {pid} is gone");
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn processor_time_counts_ended_threads() {
        let pid = std::process::id();
        let before = process_time(pid).expect("a time");
        let busy = Duration::from_millis(5);
        let worker = thread::spawn(move || {
            while process_time(pid).expect("a time") < before + busy {
                black_box(0);
            }
        });
        worker.join().expect("a thread that ends");
        assert!(process_time(pid).expect("a time") >= before + busy);
    }

    #[test]
    fn settings_name_the_source() {
        let dir = Path::new("scratch");
        let config = settings(dir, [1, 2, 3, 4], &[0, 2], Source::Embedded(Path::new("kept")));
        assert_eq!(config["osmia"]["data_dir"], "kept");
        assert_eq!(config["osmia"]["cores"], "0,2");
        assert_eq!(config["deployment"]["admin"]["admin_listen"]["port"], 2);
        let config = settings(dir, [1, 2, 3, 4], &[0], Source::Etcd("http://127.0.0.1:5"));
        assert_eq!(config["deployment"]["etcd"]["host"][0], "http://127.0.0.1:5");
        assert_eq!(config["osmia"]["data_dir"], "scratch/data");
    }
}
