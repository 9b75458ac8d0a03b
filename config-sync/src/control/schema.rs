//! `/v1/schema`: the JSON Schemas of resources and plugins.

use axum::extract::State;
use axum::response::Response;
use osmia_core::schema;
use serde_json::{Map, Value, json};

use super::answer;
use crate::plane::Plane;

/// The parts of `main`, as APISIX has them (`apisix/control/v1.lua`, `schema`).
const MAIN: [&str; 14] = [
    "consumer",
    "consumer_group",
    "global_rule",
    "graphql_cost_decoration",
    "plugin_config",
    "plugins",
    "proto",
    "route",
    "service",
    "ssl",
    "stream_route",
    "upstream",
    "upstream_hash_header_schema",
    "upstream_hash_vars_schema",
];

pub(super) async fn all(State(plane): State<Plane>) -> Response {
    let main =
        MAIN.iter().filter_map(|name| Some(((*name).to_owned(), schema::named(name)?.clone())));
    let main: Map<String, Value> = main.collect();
    let (mut plugins, mut of_streams) = (Map::new(), Map::new());
    for plugin in plane.rules.plugins.iter() {
        // APISIX's plugins have versions of their own, all of them 0.1 but a few.
        let mut shown =
            json!({ "version": 0.1, "priority": plugin.priority, "schema": plugin.schema });
        if let Some(schema) = &plugin.consumer_schema {
            shown["type"] = "auth".into();
            shown["consumer_schema"] = schema.clone();
        }
        if let Some(schema) = &plugin.metadata_schema {
            shown["metadata_schema"] = schema.clone();
        }
        if plugin.stream {
            of_streams.insert(plugin.name.to_owned(), shown.clone());
        }
        plugins.insert(plugin.name.to_owned(), shown);
    }
    answer::ok(&json!({ "main": main, "plugins": plugins, "stream_plugins": of_streams }))
}
