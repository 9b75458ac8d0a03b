//! `osmia explain`: what a running gateway would do with a request, and why.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};

use super::Server;

/// The exit code when no route matches.
const NO_ROUTE: u8 = 1;

/// Arguments of `osmia explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    server: Server,

    /// `http://host[:port]/path?query`
    #[arg(short, long)]
    url: String,

    /// Method
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,

    /// A header field, `Name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,

    /// Body
    #[arg(short, long, value_name = "TEXT")]
    data: Option<String>,

    /// Address of the client
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    client: IpAddr,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

impl ExplainArgs {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut question = json!({
            "url": self.url,
            "method": self.method,
            "headers": self.headers()?,
            "client": self.client,
        });
        if let Some(body) = &self.data {
            question["body"] = body.as_str().into();
        }
        let answer = self.server.client()?.post("explain", &question)?;
        if self.json {
            println!("{answer:#}");
        } else {
            print!("{}", text(&answer));
        }
        Ok(if answer["route"].is_null() { ExitCode::from(NO_ROUTE) } else { ExitCode::SUCCESS })
    }

    fn headers(&self) -> anyhow::Result<Map<String, Value>> {
        let mut headers = Map::new();
        for field in &self.headers {
            let (name, value) = field
                .split_once(':')
                .with_context(|| format!("--header {field:?}: expected `Name: value`"))?;
            let values = headers.entry(name.trim()).or_insert_with(|| json!([]));
            if let Value::Array(values) = values {
                values.push(value.trim().into());
            }
        }
        Ok(headers)
    }
}

/// The answer for people.
fn text(answer: &Value) -> String {
    let mut text = String::new();
    let request = &answer["request"];
    let _ = writeln!(
        text,
        "{} {} for {} from {}, revision {}",
        bare(&request["method"]),
        bare(&request["path"]),
        bare(&request["host"]),
        bare(&request["client"]),
        answer["revision"]
    );
    let tried = answer["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
    let _ =
        writeln!(text, "tried, in this order:{}", if tried.is_empty() { " nothing" } else { "" });
    for candidate in tried {
        let _ =
            write!(text, "  route {} ({}): ", bare(&candidate["route"]), bare(&candidate["uri"]));
        let _ = match candidate.get("failed") {
            None => writeln!(text, "matches"),
            Some(failed) => writeln!(text, "{}", failure(failed)),
        };
    }
    if let Some(refusal) = answer.get("answer") {
        let _ = writeln!(text, "answered with {}: {}", refusal["status"], bare(&refusal["reason"]));
    }
    for plugin in answer["plugins"].as_array().into_iter().flatten() {
        let _ = write!(text, "plugin {} of {}", bare(&plugin["name"]), bare(&plugin["from"]));
        let over: Vec<_> = super::texts(plugin, "overrides").collect();
        let over = over.join(", ");
        let _ = if over.is_empty() { writeln!(text) } else { writeln!(text, ", not of {over}") };
    }
    if let Some(upstream) = answer.get("upstream") {
        let _ = writeln!(
            text,
            "upstream {} ({}), {} retries, Host: {}",
            bare(&upstream["id"]),
            bare(&upstream["type"]),
            upstream["retries"],
            bare(&upstream["host"])
        );
        for node in upstream["nodes"].as_array().into_iter().flatten() {
            let (name, address) = (bare(&node["node"]), bare(&node["address"]));
            let _ = writeln!(
                text,
                "  node {name} at {address}, weight {}, priority {}: {}",
                node["weight"],
                node["priority"],
                bare(&node["status"])
            );
        }
    }
    text
}

fn failure(failed: &Value) -> String {
    let (field, wanted, saw) = (bare(&failed["field"]), &failed["wanted"], &failed["saw"]);
    match (wanted.is_null(), saw.is_null()) {
        (true, true) => format!("{field} does not match"),
        (true, false) => format!("{field} does not match {}", bare(saw)),
        (false, true) => format!("{field} wants {}, which is not there", bare(wanted)),
        (false, false) => format!("{field} wants {}, saw {}", bare(wanted), bare(saw)),
    }
}

/// Strings without quotes.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_tried_and_where_it_goes() {
        let answer = json!({
            "revision": 7,
            "request": {"method": "GET", "host": "a.test", "path": "/a", "client": "10.0.0.1"},
            "candidates": [
                {"route": "1", "uri": "/a", "matched": false,
                 "failed": {"field": "methods", "wanted": ["POST"], "saw": "GET"}},
                {"route": "2", "uri": "/*", "matched": true},
            ],
            "route": {"id": "2", "priority": 0},
            "plugins": [{"name": "cors", "from": "routes/2", "overrides": ["services/s"]}],
            "upstream": {"id": "u", "type": "roundrobin", "retries": 1, "host": "the client's", "nodes": [
                {"node": "n.test", "address": "10.0.0.2:80", "weight": 1, "priority": 0, "status": "down"},
            ]},
        });
        let expected = "\
GET /a for a.test from 10.0.0.1, revision 7
tried, in this order:
  route 1 (/a): methods wants [\"POST\"], saw GET
  route 2 (/*): matches
plugin cors of routes/2, not of services/s
upstream u (roundrobin), 1 retries, Host: the client's
  node n.test at 10.0.0.2:80, weight 1, priority 0: down
";
        assert_eq!(text(&answer), expected);
    }
}
