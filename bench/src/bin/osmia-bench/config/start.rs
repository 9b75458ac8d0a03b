//! How long a start takes with many routes, from etcd and from the embedded store.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::Lab;
use super::data::Entry;
use super::gateway::{Source, Start, administer};
use crate::http::Client;
use crate::stats::Spread;

/// Resources of one transaction when the embedded store is filled.
const SET: usize = 5000;

/// Starts from one store.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Starts {
    /// How long it took to write everything into the store, in milliseconds.
    pub(super) fill_ms: f64,
    pub(super) starts: Vec<Start>,
}

impl Starts {
    /// One figure over the starts.
    pub(super) fn spread(&self, figure: impl Fn(&Start) -> f64) -> Option<Spread> {
        Spread::of(self.starts.iter().map(figure))
    }
}

/// From etcd, with a new data directory each time: nothing of an earlier start helps.
pub(super) fn from_etcd(lab: &mut Lab) -> Result<Starts> {
    let (url, fill_ms) = lab.etcd()?;
    let starts = starts(lab, "etcd", Source::Etcd(&url))?;
    Ok(Starts { fill_ms, starts })
}

/// From the embedded store, which was filled through the Admin API.
pub(super) fn from_embedded(lab: &mut Lab) -> Result<Starts> {
    let (directory, fill_ms) = lab.embedded()?;
    let starts = starts(lab, "embedded store", Source::Embedded(&directory))?;
    Ok(Starts { fill_ms, starts })
}

fn starts(lab: &Lab, name: &str, source: Source<'_>) -> Result<Vec<Start>> {
    let mut starts = Vec::new();
    for round in 1..=lab.options.rounds {
        let start = lab.launch(source)?.measure_start(lab.data)?;
        println!(
            "  start from {name}, round {round}: first request after {:.0} ms, all workers after \
             {:.0} ms, {:.0} ms of CPU, {:.0} MiB resident, at most {:.0}",
            start.first_ms, start.ready_ms, start.cpu_ms, start.rss_mib, start.peak_mib
        );
        starts.push(start);
    }
    Ok(starts)
}

/// Fills the embedded store in `directory` with transactions; how long it took, in milliseconds.
pub(super) fn fill(lab: &Lab, directory: &Path) -> Result<f64> {
    let mut gateway = lab.launch(Source::Embedded(directory))?;
    gateway.await_admin()?;
    let begun = Instant::now();
    let mut client = Client::connect(gateway.admin)?;
    let mut entries = lab.data.entries().peekable();
    while entries.peek().is_some() {
        let put: Vec<Value> = entries.by_ref().take(SET).map(|entry| written(&entry)).collect();
        let body = json!({ "put": put }).to_string();
        let (status, answer) = administer(&mut client, "POST", "transaction", &body)
            .with_context(|| format!("the gateway said:\n{}", gateway.last_words()))?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(status == 200, "a transaction is refused with {status}: {text:.500}");
    }
    let took = begun.elapsed().as_secs_f64() * 1e3;
    gateway.await_serving(lab.data)?;
    Ok(took)
}

/// What a client writes: the store itself sets the times.
fn written((key, value): &Entry) -> Value {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "create_time" | "update_time"));
    }
    json!({ "key": key, "value": value })
}
