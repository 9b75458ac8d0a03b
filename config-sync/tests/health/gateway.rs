//! A configuration plane on a file, as a worker sees it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use osmia_config_sync::health::Report;
use osmia_config_sync::publish::WorkerFeed;
use osmia_config_sync::settings::{self, Overrides};
use osmia_config_sync::sync::{self, SyncHandle};
use osmia_core::health::Outcome;
use osmia_core::snapshot::{Snapshot, Upstream};
use osmia_tests::eventually;
use osmia_tests::port::Reserved;
use serde_json::{Value, json};

use crate::PATIENCE;

pub struct Gateway {
    sync: SyncHandle,
    feed: WorkerFeed,
    control: Reserved,
    status: Reserved,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// Serves these resources: `{"routes": [...], ...}`.
    pub fn new(resources: &Value) -> Self {
        Self::with(resources, &json!({}))
    }

    /// With further settings below `apisix`.
    pub fn with(resources: &Value, apisix: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (control, status) = (Reserved::new(), Reserved::new());
        let listen = |port: &Reserved| json!({"ip": "127.0.0.1", "port": port.port()});
        let mut settings = json!({
            "deployment": {
                "role": "data_plane",
                "role_data_plane": {"config_provider": "json"},
            },
            "apisix": {"control": listen(&control), "status": listen(&status)},
            "osmia": {"data_dir": folder.path().join("data")},
        });
        let section = settings["apisix"].as_object_mut().unwrap();
        section.extend(apisix.as_object().unwrap().clone());
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, settings.to_string()).unwrap();
        write(folder.path(), resources);
        let loaded = settings::load(Some(&file), &Overrides::default()).unwrap();
        let sync = sync::start(&loaded.settings, 1).unwrap();
        let feed = sync.subscribe().unwrap();
        Self { sync, feed, control, status, folder }
    }

    /// Changes the resources, and waits until they are in force.
    pub fn change(&self, resources: &Value) {
        let before = self.revision();
        write(self.folder.path(), resources);
        self.sync.reload();
        // Not every change makes a new snapshot.
        eventually("the change is in force", || self.revision() > before);
    }

    /// The revision of the store that has been applied.
    fn revision(&self) -> u64 {
        let (_, body) = self.control("/v1/osmia/status", "*/*");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["store"]["revision"].as_u64().unwrap()
    }

    pub fn current(&self) -> Arc<Snapshot> {
        self.sync.current()
    }

    /// Waits for a snapshot of which this holds.
    pub fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let deadline = Instant::now() + PATIENCE;
        let mut snapshot = self.sync.current();
        while !holds(&snapshot) {
            snapshot = self.feed.snapshots.recv_deadline(deadline).expect(what);
        }
        snapshot
    }

    /// Waits until exactly these nodes of the route's upstream are down.
    pub fn until_down(&self, path: &str, nodes: &[SocketAddr]) {
        self.until(&format!("{path}: {nodes:?} are down"), |snapshot| {
            down(snapshot, path) == nodes
        });
    }

    /// Tells of requests, as a worker does.
    pub fn report(&self, path: &str, addr: SocketAddr, outcome: Outcome, count: u32) {
        let upstream = upstream(&self.current(), path).slot;
        assert!(self.feed.reports.report(Report { upstream, addr, outcome, count }));
    }

    /// An answer of the Control API: status and body.
    pub fn control(&self, path: &str, accept: &str) -> (u16, String) {
        get(self.control.addr(), path, accept)
    }

    /// The nodes that the Control API shows.
    pub fn nodes(&self, path: &str) -> Vec<Value> {
        let (status, body) = self.control(path, "*/*");
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["nodes"].as_array().cloned().unwrap_or_default()
    }

    /// The lines of a metric.
    pub fn metric(&self, name: &str) -> Vec<String> {
        let (_, body) = get(self.status.addr(), "/metrics", "*/*");
        body.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.sync.stop();
    }
}

fn write(folder: &Path, resources: &Value) {
    // As a whole, so that no half of it is read.
    let (next, file) = (folder.join("next"), folder.join("apisix.json"));
    std::fs::write(&next, resources.to_string()).unwrap();
    std::fs::rename(next, file).unwrap();
}

fn get(addr: SocketAddr, path: &str, accept: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// The upstream of the route at `path`.
pub fn upstream(snapshot: &Snapshot, path: &str) -> Arc<Upstream> {
    let route = osmia_tests::routes::find(snapshot, "h", path).unwrap();
    route.upstream.clone().unwrap()
}

/// The nodes of the route's upstream that are down.
pub fn down(snapshot: &Snapshot, path: &str) -> Vec<SocketAddr> {
    let upstream = upstream(snapshot, path);
    let down = snapshot.health.down(upstream.slot);
    let is_down = |index: usize| down.is_some_and(|down| down.contains(index));
    let nodes = upstream.nodes.iter().enumerate();
    nodes.filter(|(index, _)| is_down(*index)).map(|(_, node)| node.addr).collect()
}
