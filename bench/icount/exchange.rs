//! The whole request path without I/O: from the bytes of a request to the bytes of its response.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use osmia::disk::DiskThread;
use osmia::http::connection;
use osmia::log::AccessLog;
use osmia::net::stack::Stack;
use osmia::worker::{ListenerInfo, LocalSnapshot, PipelineSettings, Worker};
use osmia_config_sync::engine::snapshot_of;
use osmia_config_sync::settings::{self, Overrides};
use osmia_config_sync::store::file::Document;
use osmia_core::access_log::Format;
use osmia_core::settings::{FileFormat, Settings};
use osmia_core::snapshot::Snapshot;

use crate::heads::{BROWSER_REQUEST, Make, SMALL_REQUEST, SMALL_RESPONSE, TYPICAL_RESPONSE, Work};
use crate::net::Scripted;

/// A route such as the benchmarks use, among others.
const ROUTES: &str = r#"
routes:
  - { id: orders, uri: /api/v2/orders, methods: [GET, POST], upstream_id: demo }
  - { id: shop, uri: /catalogue/*, hosts: [shop.example.com], upstream_id: demo }
  - { id: all, uri: /*, upstream_id: demo }
upstreams:
  - { id: demo, type: roundrobin, nodes: { "127.0.0.1:1980": 1 },
      keepalive_pool: { size: 1, idle_timeout: 60, requests: 1000000 } }
#END
"#;

const BODY_BYTES: usize = 1024;

/// All scenarios on exchanges.
pub(crate) fn scenarios() -> Vec<(&'static str, Make)> {
    vec![
        ("exchange-small", || exchange(SMALL_REQUEST, SMALL_RESPONSE, false)),
        ("exchange-browser", || exchange(BROWSER_REQUEST, TYPICAL_RESPONSE, false)),
        ("exchange-logged", || exchange(SMALL_REQUEST, SMALL_RESPONSE, true)),
    ]
}

fn exchange(request: &'static [u8], head: &'static [u8], logged: bool) -> Work {
    let response = [head, &[b'x'; BODY_BYTES]].concat();
    let net = Scripted::new(request, response);
    let mut settings = settings::load(None, &Overrides::default()).expect("the defaults").settings;
    settings.downstream.keepalive_requests = 0;
    let log = logged.then(|| access_log(&settings));
    let pipeline = PipelineSettings::from(&settings);
    let worker = Rc::new(Worker::new(0, Stack(net.clone()), pipeline, Arc::default(), log));
    worker.install(LocalSnapshot::new(snapshot(), None));
    let listener = ListenerInfo::new(SocketAddr::from(([127, 0, 0, 1], 9080)), logged);
    let client = SocketAddr::from(([192, 0, 2, 33], 40_000));
    connection::accept(&worker, Stack::plain(net.client()), client, Rc::new(listener));
    let mut expected = 0;
    Box::new(move |times| {
        net.exchanges(times);
        expected += u64::from(times);
        assert_eq!(worker.stats.requests.get(), expected);
        assert_eq!(worker.stats.connects.get(), 1);
        assert_eq!(worker.stats.upstream_errors.get(), 0);
    })
}

fn snapshot() -> Arc<Snapshot> {
    let document = Document::of_text(ROUTES, FileFormat::Yaml).expect("valid routes");
    let (snapshot, problems) = snapshot_of(Arc::default(), document.resources);
    assert!(problems.is_empty(), "{problems:?}");
    Arc::new(snapshot)
}

/// A log in the default format whose lines are never handed over: the disk is another thread's
/// work. That thread has nothing to write, and no ring, which valgrind does not know.
fn access_log(settings: &Settings) -> AccessLog {
    let mut config = settings.access_log.clone().expect("an access log by default");
    config.path = "/dev/null".into();
    let disk = DiskThread::start(&config).expect("a disk thread");
    let format = Format::parse(&config.format, config.escape).expect("the default format");
    AccessLog::new(Arc::new(format), disk.sink(), usize::MAX)
}
