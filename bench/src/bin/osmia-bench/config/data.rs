//! The resources that are measured with, as APISIX stores them.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Most upstreams, and services.
const GROUPS: usize = 1000;
/// APISIX's default, and Osmia's.
const PREFIX: &str = "/apisix";
/// Seconds since 1970, when all of it is said to have been written.
const WRITTEN: u64 = 1_790_000_000;
/// Coprime to round numbers of routes: neighbouring changes hit distant routes.
const STRIDE: usize = 7919;

/// A set of routes with distinct hosts and paths, spread over services, each with its upstream.
///
/// The last two have an upstream that answers: the last, the *probe*, shows changes by its path,
/// and the one before carries the traffic. Nobody asks for the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    routes: usize,
    /// The upstream that answers.
    demo: SocketAddr,
}

/// A resource: its key below the prefix, for example `routes/7`, and its stored form.
pub(super) type Entry = (String, Value);

impl Data {
    /// At least four routes, of which two are special.
    pub(super) fn new(routes: usize, demo: SocketAddr) -> Self {
        Self { routes: routes.max(4), demo }
    }

    fn groups(&self) -> usize {
        self.routes.min(GROUPS)
    }

    /// Everything: first upstreams, then services, then routes, so that no reference is ever
    /// missing.
    pub(super) fn entries(self) -> impl Iterator<Item = Entry> {
        let upstreams = (0..self.groups()).map(move |group| self.upstream(group));
        let services = (0..self.groups()).map(Self::service);
        let routes = (0..self.routes).map(move |number| self.route(number, 0));
        upstreams.chain(services).chain(routes)
    }

    fn upstream(self, group: usize) -> Entry {
        let special = [self.probe(), self.traffic()].map(|route| route % self.groups());
        let nodes = if special.contains(&group) {
            json!({ self.demo.to_string(): 1 })
        } else {
            let (high, low) = (group / 250, group % 250 + 1);
            json!({ format!("10.1.{high}.{low}:8080"): 1, format!("10.2.{high}.{low}:8080"): 1 })
        };
        let id = format!("upstream-{group}");
        let value = json!({
            "id": id, "name": format!("pool {group}"), "type": "roundrobin", "nodes": nodes,
            "scheme": "http", "hash_on": "vars", "pass_host": "pass", "retries": 1,
            "timeout": { "connect": 3, "send": 15, "read": 15 },
            "create_time": WRITTEN, "update_time": WRITTEN,
        });
        (format!("upstreams/{id}"), value)
    }

    fn service(group: usize) -> Entry {
        let id = format!("service-{group}");
        let value = json!({
            "id": id, "name": format!("service {group}"), "desc": "measured with",
            "upstream_id": format!("upstream-{group}"), "labels": { "team": "shop" },
            "create_time": WRITTEN, "update_time": WRITTEN,
        });
        (format!("services/{id}"), value)
    }

    /// Route `number` as it is after change `version`; 0 is how it begins. A change moves the
    /// route's path.
    pub(super) fn route(self, number: usize, version: u64) -> Entry {
        // The form that APISIX gives to the ids it makes.
        let id = format!("{number:020}");
        let mut value = self.body(number, version);
        value["id"] = json!(id);
        value["create_time"] = json!(WRITTEN);
        value["update_time"] = json!(WRITTEN + version);
        (format!("routes/{id}"), value)
    }

    /// What a client of the Admin API sends for [`Data::route`].
    pub(super) fn body(self, number: usize, version: u64) -> Value {
        json!({
            "name": format!("orders of shop {number}"), "desc": "measured with",
            "uri": self.uri(number, version), "host": Self::host(number),
            "methods": ["GET", "POST", "PUT"], "priority": 0, "status": 1,
            "service_id": format!("service-{}", number % self.groups()),
            "labels": { "team": format!("team-{}", number % 20), "stage": "production" },
        })
    }

    fn uri(self, number: usize, version: u64) -> String {
        if number == self.traffic() {
            "/bytes/*".into()
        } else {
            format!("{}/*", Self::path(number, version))
        }
    }

    /// The path that route `number` has after change `version`, without what may follow.
    pub(super) fn path(number: usize, version: u64) -> String {
        format!("/api/v{version}/orders-{number}")
    }

    /// The host of route `number`.
    pub(super) fn host(number: usize) -> String {
        format!("shop-{number}.example.com")
    }

    /// The route whose changes are looked for.
    pub(super) fn probe(self) -> usize {
        self.routes - 1
    }

    /// The route that carries the traffic.
    pub(super) fn traffic(self) -> usize {
        self.routes - 2
    }

    /// The route that change `number` is made to: never one of the two special ones.
    pub(super) fn changed(self, number: usize) -> usize {
        number.wrapping_mul(STRIDE) % (self.routes - 2)
    }
}

/// The full key in etcd.
pub(super) fn stored(key: &str) -> String {
    format!("{PREFIX}/{key}")
}

/// A key that the gateway does not watch.
pub(super) fn aside(key: &str) -> String {
    format!("/aside/{key}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_is_distinct_and_refers_to_what_is_there() {
        let demo = SocketAddr::from(([127, 0, 0, 1], 4242));
        let data = Data::new(1100, demo);
        let entries: Vec<Entry> = data.entries().collect();
        let keys: BTreeSet<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys.len(), 3100);
        let of = |name: &'static str| {
            entries.iter().filter_map(move |(_, value)| value[name].as_str()).collect::<Vec<_>>()
        };
        assert_eq!(of("host").into_iter().collect::<BTreeSet<_>>().len(), 1100);
        assert_eq!(of("uri").into_iter().collect::<BTreeSet<_>>().len(), 1100);
        assert!(of("service_id").iter().all(|id| keys.contains(format!("services/{id}").as_str())));
        let answering =
            entries.iter().filter(|(_, value)| !value["nodes"]["127.0.0.1:4242"].is_null());
        assert_eq!(answering.count(), 2);
    }

    #[test]
    fn changes_leave_the_special_routes_alone() {
        let data = Data::new(5, SocketAddr::from(([127, 0, 0, 1], 1)));
        assert!((0..100).all(|number| data.changed(number) < 3));
        let (key, value) = data.route(data.probe(), 3);
        assert_eq!(key, "routes/00000000000000000004");
        assert_eq!(value["uri"], "/api/v3/orders-4/*");
    }
}
