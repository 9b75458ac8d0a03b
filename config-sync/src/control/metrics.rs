//! Metrics of the configuration plane in Prometheus' text format.

use std::fmt::Write;

use ahash::HashSet;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use osmia_core::resource::Kind;

use super::dump;
use super::health::owner;
use super::status::Probed;
use crate::plane::Plane;
use crate::state;

/// The kinds that `apisix_etcd_modify_indexes` tells of, under APISIX's labels
/// (`apisix/plugins/prometheus/exporter.lua`, `etcd_modify_index`).
const INDEXED: [(&str, Kind); 8] = [
    ("routes", Kind::Route),
    ("services", Kind::Service),
    ("ssls", Kind::Ssl),
    ("consumers", Kind::Consumer),
    ("global_rules", Kind::GlobalRule),
    ("upstreams", Kind::Upstream),
    ("stream_routes", Kind::StreamRoute),
    ("protos", Kind::Proto),
];

pub(super) async fn show(State(probed): State<Probed>) -> Response {
    let text = write(&probed.plane);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn write(plane: &Plane) -> String {
    let mut page = Page::default();
    let installed = plane.publisher.installed();
    page.gauge(
        "osmia_config_snapshot_revision",
        "Revision of the snapshot that a worker serves by",
        Some("worker"),
        installed.iter().enumerate().map(|(id, revision)| (id.to_string(), *revision)),
    );
    let state = plane.state();
    let source = state.source();
    page.one(
        "apisix_etcd_reachable",
        "Config server etcd reachable from APISIX, 0 is unreachable",
        u64::from(source.reachable),
    );
    page.gauge(
        "apisix_etcd_modify_indexes",
        "Etcd modify index for APISIX keys",
        Some("key"),
        modify_indexes(&state),
    );
    page.one(
        "osmia_config_revision",
        "Revision of the store that this process has seen",
        state.revision(),
    );
    page.one(
        "osmia_config_quarantined",
        "Resources that cannot be used as they are stored",
        state.quarantine().len() as u64,
    );
    page.one(
        "osmia_config_from_copy",
        "1 when the store is away and what is served comes from the copy on disk",
        u64::from(source.from_copy),
    );
    page.one(
        "osmia_config_refused",
        "1 when the store is reached but its contents as a whole cannot be used",
        u64::from(source.reachable && source.problem.is_some()),
    );
    page.counter(
        "osmia_dns_questions_total",
        "Questions sent to DNS servers",
        state.lookups.questions(),
    );
    page.counter(
        "osmia_lookup_failures_total",
        "Lookups of names and services that nobody could answer",
        state.lookups.failures(),
    );
    page.one(
        "osmia_lookups_stale",
        "Names and services that are used with earlier addresses, since there is no answer now",
        state.lookups.stale(),
    );
    drop(state);
    page.upstream_status(plane);
    page.text
}

fn modify_indexes(state: &state::State) -> Vec<(String, u64)> {
    let newest = |kind| state.items(kind).map(|(_, stored)| stored.modified).max().unwrap_or(0);
    let mut indexes: Vec<_> =
        INDEXED.iter().map(|(label, kind)| ((*label).to_owned(), newest(*kind))).collect();
    let greatest = indexes.iter().map(|(_, index)| *index).max().unwrap_or(0);
    indexes.push(("max_modify_index".to_owned(), greatest));
    indexes.push(("x_etcd_index".to_owned(), state.revision()));
    indexes
}

/// A text as the value of a label.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A page of metrics.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.gauge(name, help, None, [(String::new(), value)]);
    }

    /// Whether nodes are used, under the labels of `apisix/plugins/prometheus/exporter.lua`.
    fn upstream_status(&mut self, plane: &Plane) {
        let name = "apisix_upstream_status";
        let _ = writeln!(self.text, "# HELP {name} Upstream status from health check");
        let _ = writeln!(self.text, "# TYPE {name} gauge");
        for checker in plane.health.views() {
            let shown = dump::shown_key(plane, &owner(&checker.upstream));
            let shown = label(&shown);
            let mut written = HashSet::default();
            // Nodes that are told apart by their names only have one series.
            for target in checker.targets.iter().filter(|target| written.insert(target.addr)) {
                let (ip, port) = (label(&target.ip()), target.addr.port());
                let up = u8::from(target.state.is_up());
                let labels = format!("name=\"{shown}\",ip=\"{ip}\",port=\"{port}\"");
                let _ = writeln!(self.text, "{name}{{{labels}}} {up}");
            }
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} counter");
        let _ = writeln!(self.text, "{name} {value}");
    }

    /// Values of one metric by the value of its only label, which needs no escapes.
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        label: Option<&str>,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labelled, value) in values {
            let _ = match label {
                Some(label) => writeln!(self.text, "{name}{{{label}=\"{labelled}\"}} {value}"),
                None => writeln!(self.text, "{name} {value}"),
            };
        }
    }
}
