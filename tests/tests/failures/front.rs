//! The gateway under load.

use std::collections::BTreeMap;

use osmia_tests::config::upstream_of;
use osmia_tests::{Config, Driver, Gateway};
use serde_json::{Value, json};

const BALANCERS: [&str; 4] = ["roundrobin", "least_conn", "ewma", "chash"];

/// Kinds of health checks, by name.
fn kinds_of_checks() -> [(&'static str, Value); 3] {
    // A machine under load must not make a good node late for its probes.
    let active = json!({
        "timeout": 2,
        "healthy": {"interval": 1, "successes": 1},
        "unhealthy": {"interval": 1, "http_failures": 1, "tcp_failures": 1, "timeouts": 2},
    });
    let passive = json!({"unhealthy": {"tcp_failures": 2, "timeouts": 2, "http_failures": 2}});
    // Found by the traffic, and brought back by probes.
    let recovery = json!({
        "timeout": 5,
        "healthy": {"interval": 3600, "successes": 1},
        "unhealthy": {"interval": 1},
    });
    [
        ("none", json!({})),
        ("active", json!({"checks": {"active": active}})),
        ("passive", json!({"checks": {"active": recovery, "passive": passive}})),
    ]
}

/// A gateway with a path for each balancer and kind of checks.
pub(crate) struct Front {
    pub(crate) gateway: Gateway,
    pub(crate) paths: Vec<String>,
}

/// A line of the access log.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) path: String,
    pub(crate) status: u16,
    /// What each try came to.
    pub(crate) tries: Vec<String>,
}

impl Front {
    /// All paths go to `nodes`; `options` are those of the upstreams.
    #[track_caller]
    pub(crate) fn start(driver: Driver, nodes: &[String], options: &Value) -> Self {
        let mut config = Config::new()
            .driver(driver)
            .plane("yaml")
            .set("osmia.keepalive_requests", 1_000_000)
            .http("access_log", "access.log")
            .http("access_log_format", "$uri $status $upstream_status")
            // A line per failed try says nothing here.
            .environment("OSMIA_LOG", "info,osmia::http=error");
        let mut paths = Vec::new();
        for balancer in BALANCERS {
            for (checks, more) in kinds_of_checks() {
                let mut upstream = upstream_of(nodes, options.clone());
                let fields = upstream.as_object_mut().unwrap();
                fields.extend(more.as_object().unwrap().clone());
                fields.insert("type".to_owned(), json!(balancer));
                if balancer == "chash" {
                    fields.insert("key".to_owned(), json!("arg_k"));
                }
                let (id, path) = (format!("{balancer}-{checks}"), format!("/{balancer}/{checks}"));
                config = config.route(json!({"id": id, "uri": path, "upstream": upstream}));
                paths.push(path);
            }
        }
        Self { gateway: config.start(), paths }
    }

    /// Paths with health checks. `ewma` with passive ones is not among them: it leaves a node that
    /// is slow by itself, before enough is counted.
    pub(crate) fn checked(&self) -> Vec<String> {
        let is_checked = |path: &&String| !path.ends_with("none") && *path != "/ewma/passive";
        self.paths.iter().filter(is_checked).cloned().collect()
    }

    /// Whether the Control API tells of the node that it is `state`, for each checked path.
    pub(crate) fn all_tell(&self, node: &str, state: &str) -> bool {
        self.checked().iter().all(|path| {
            let id = path[1..].replace('/', "-");
            let told = self.gateway.control().json(&format!("/v1/healthcheck/routes/{id}"));
            let mut nodes = told["nodes"].as_array().unwrap().iter();
            nodes.any(|told| {
                format!("{}:{}", told["ip"].as_str().unwrap(), told["port"]) == node
                    && told["status"] == json!(state)
            })
        })
    }

    /// Stops the gateway; what its access log says.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Vec<Line> {
        self.gateway.stop();
        let text = std::fs::read_to_string(self.gateway.file("access.log")).unwrap();
        text.lines().map(Line::parse).collect()
    }

    /// Stops the gateway. Each path has served, no client was told of a failure, and there was
    /// something to tell: tries have failed.
    #[track_caller]
    pub(crate) fn served_through_failures(self) {
        let paths = self.paths.clone();
        let lines = self.ended();
        // 499: the load has ended in the middle of it.
        let told: Vec<&Line> = lines.iter().filter(|l| ![200, 499].contains(&l.status)).collect();
        assert!(told.is_empty(), "{} failures: {:#?}", told.len(), &told[..told.len().min(10)]);
        let mut served: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for line in lines.iter().filter(|line| line.status == 200) {
            let (all, retried) = served.entry(&line.path).or_default();
            *all += 1;
            *retried += usize::from(line.tries.len() > 1);
        }
        eprintln!("answered, and after a retry: {served:?}");
        for path in &paths {
            assert!(
                served.get(path.as_str()).is_some_and(|(all, _)| *all > 0),
                "{path}: {served:?}"
            );
            let without_checks = path.ends_with("none");
            let retried = served.get(path.as_str()).is_some_and(|(_, retried)| *retried > 0);
            assert!(retried || !without_checks, "no try has failed at {path}: {served:?}");
        }
    }
}

impl Line {
    fn parse(line: &str) -> Self {
        let mut parts = line.splitn(3, ' ');
        let path = parts.next().unwrap().to_owned();
        let status = parts.next().unwrap().parse().unwrap();
        let tries = parts.next().unwrap_or_default().split(", ").map(ToOwned::to_owned).collect();
        Self { path, status, tries }
    }
}
