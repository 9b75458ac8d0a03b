//! What health checks cost. Run by hand, with an optimised build:
//! `cargo test --profile fast -p osmia-config-sync --test health -- --ignored --nocapture cost`

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::Gateway;

/// Upstreams, of one node each, probed every second.
const UPSTREAMS: usize = 2_500;
/// Ports that they are spread over.
const PORTS: usize = 8;
/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// What `/proc` counts processor time in.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of the sync thread, in seconds.
fn processor_time() -> (f64, f64) {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let sync = threads.map(|thread| thread.unwrap().path()).find(|thread| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "osmia-sync")
    });
    let stat = fs::read_to_string(sync.unwrap().join("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let seconds = |field: &str| field.parse::<f64>().unwrap() / TICKS_PER_SECOND;
    (seconds(fields[11]), seconds(fields[12]))
}

/// Nodes that answer on a runtime of their own; how many requests they have seen.
fn nodes() -> (Vec<u16>, std::sync::Arc<std::sync::atomic::AtomicU64>) {
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let seen = std::sync::Arc::new(AtomicU64::new(0));
    let (ports, there) = std::sync::mpsc::channel();
    let counted = std::sync::Arc::clone(&seen);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            for _ in 0..PORTS {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                ports.send(listener.local_addr().unwrap().port()).unwrap();
                let counted = std::sync::Arc::clone(&counted);
                tokio::spawn(async move {
                    while let Ok((mut stream, _)) = listener.accept().await {
                        let counted = std::sync::Arc::clone(&counted);
                        tokio::spawn(async move {
                            let _ = stream.read(&mut [0; 1024]).await;
                            counted.fetch_add(1, Ordering::Relaxed);
                            let text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\
                                        Content-Length: 2\r\n\r\nok";
                            let _ = stream.write_all(text.as_bytes()).await;
                            let _ = stream.read(&mut [0; 16]).await;
                        });
                    }
                });
            }
            drop(ports);
            std::future::pending::<()>().await;
        });
    });
    (there.iter().take(PORTS).collect(), seen)
}

#[test]
#[ignore = "a measurement, for a machine that has nothing else to do"]
fn cost_of_2500_upstreams() {
    let (ports, seen) = nodes();
    let checks = json!({"active": {"healthy": {"interval": 1}, "unhealthy": {"interval": 1}}});
    let upstreams: Vec<Value> = (0..UPSTREAMS)
        .map(|id| {
            let node = json!({"host": "127.0.0.1", "port": ports[id % PORTS], "weight": 1});
            json!({"id": id, "nodes": [node], "checks": checks})
        })
        .collect();
    let _gateway = Gateway::new(&json!({ "upstreams": upstreams }));
    std::thread::sleep(Duration::from_secs(3));
    let (before, requests) = (processor_time(), seen.load(std::sync::atomic::Ordering::Relaxed));
    std::thread::sleep(WATCHED);
    let (after, seen) = (processor_time(), seen.load(std::sync::atomic::Ordering::Relaxed));
    let (user, system) = (after.0 - before.0, after.1 - before.1);
    let (probes, seconds) = ((seen - requests) as f64, WATCHED.as_secs_f64());
    println!(
        "{:.0} probes a second, {:.2} % of a core ({:.2} user, {:.2} system), {:.1} us a probe",
        probes / seconds,
        100.0 * (user + system) / seconds,
        100.0 * user / seconds,
        100.0 * system / seconds,
        1e6 * (user + system) / probes,
    );
}
