//! The configuration that is built in, for a gateway started with nothing at all.

use crate::resources::Resources;
use crate::standalone::{self, LoadError};

/// Where the demo route goes: the demo upstream that comes with Osmia.
pub const DEMO_UPSTREAM: &str = "127.0.0.1:9081";

/// The demo configuration, as it can be written in `apisix.yaml`.
const DEMO: &str = include_str!("../../conf/apisix.yaml");

/// One route, `/*`, to [`DEMO_UPSTREAM`].
pub fn resources() -> Result<Resources, LoadError> {
    standalone::parse(DEMO, &|_| None).map(|parsed| parsed.resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_route_to_the_demo_upstream() {
        let resources = resources().unwrap();
        let [route] = &resources.routes[..] else { panic!("{resources:?}") };
        assert_eq!(route.value.uris[0].as_str(), "/*");
        assert!(route.value.hosts.is_empty() && route.value.methods.is_empty());
        let [node] = &route.value.upstream.as_ref().unwrap().nodes[..] else { panic!() };
        let port = node.port.unwrap();
        assert_eq!((format!("{}:{port}", node.host), node.weight), (DEMO_UPSTREAM.to_owned(), 1));
        assert!(resources.upstreams.is_empty());
    }
}
