//! `checks`: active and passive health checks.

use serde_json::Value;

use super::super::Violation;
use super::super::fields::{self, Object};
use crate::router::METHODS;

/// HTTP statuses that a check can name.
const STATUSES: (i64, i64) = (200, 599);

/// Most events that a check counts.
const COUNT_MAX: i64 = 254;

const TYPES: [&str; 3] = ["http", "https", "tcp"];

const PASSIVE_HEALTHY: [i64; 19] =
    [200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308];

/// `checks` of an upstream.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Checks {
    /// `active`: requests of the gateway's own.
    pub active: ActiveCheck,
    /// `passive`: conclusions from the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive: Option<PassiveCheck>,
}

/// `checks.active`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ActiveCheck {
    /// `type`: `http`, `https` or `tcp`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `timeout` in seconds.
    pub timeout: f64,
    /// `concurrency`: nodes probed at the same time.
    pub concurrency: i64,
    /// `host`: the `Host` header of a probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `port`, when it is not the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `http_method`.
    pub http_method: &'static str,
    /// `http_path`.
    pub http_path: String,
    /// `http_req_body`.
    pub http_req_body: String,
    /// `https_verify_certificate`.
    pub https_verify_certificate: bool,
    /// `req_headers`: lines of `Name: value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub req_headers: Vec<String>,
    /// `healthy`: what makes an unhealthy node healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Outcome>,
    /// `unhealthy`: what makes a healthy node unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<Outcome>,
}

/// `checks.passive`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PassiveCheck {
    /// `type`: `http`, `https` or `tcp`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `healthy`: what makes an unhealthy node healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Outcome>,
    /// `unhealthy`: what makes a healthy node unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<Outcome>,
}

/// `healthy` and `unhealthy`: what is counted, and from which count on the node's state changes.
/// What does not belong to a form is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// `interval` between probes, in seconds; active checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// `http_statuses` that count.
    pub http_statuses: Vec<i64>,
    /// `successes`; of `healthy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successes: Option<u8>,
    /// `http_failures`; of `unhealthy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_failures: Option<u8>,
    /// `tcp_failures`; of `unhealthy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_failures: Option<u8>,
    /// `timeouts`; of `unhealthy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<u8>,
}

impl Checks {
    /// Checks and takes a `checks` object.
    pub(super) fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let active = fields::optional(map, "active", ActiveCheck::from_json)?;
        let passive = fields::optional(map, "passive", PassiveCheck::from_json)?;
        match active {
            Some(active) => Ok(Self { active, passive }),
            None => Err(Violation::NoAlternative {
                required: &[&["active"], &["active", "passive"]],
                cause: None,
            }),
        }
    }
}

impl ActiveCheck {
    fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let any = |value| fields::integer(value, i64::MIN, i64::MAX);
        let port = |value| fields::integer(value, 1, 65535).map(|port| port as u16);
        let verify = "https_verify_certificate";
        Ok(Self {
            kind: kind(map)?,
            timeout: fields::optional(map, "timeout", fields::number)?.unwrap_or(1.0),
            concurrency: fields::optional(map, "concurrency", any)?.unwrap_or(10),
            host: fields::optional(map, "host", fields::host)?.map(str::to_owned),
            port: fields::optional(map, "port", port)?,
            http_method: fields::optional(map, "http_method", |v| fields::one_of(v, &METHODS))?
                .unwrap_or("GET"),
            http_path: fields::optional(map, "http_path", fields::text)?
                .unwrap_or_else(|| "/".to_owned()),
            http_req_body: fields::optional(map, "http_req_body", fields::text)?
                .unwrap_or_default(),
            https_verify_certificate: fields::optional(map, verify, fields::boolean)?
                .unwrap_or(true),
            req_headers: fields::optional(map, "req_headers", lines)?.unwrap_or_default(),
            healthy: fields::optional(map, "healthy", |value| {
                Outcome::from_json(value, 1, Some(1), &[200, 302], &[("successes", 2)])
            })?,
            unhealthy: fields::optional(map, "unhealthy", |value| {
                let counts = [("http_failures", 5), ("tcp_failures", 2), ("timeouts", 3)];
                let statuses = [429, 404, 500, 501, 502, 503, 504, 505];
                Outcome::from_json(value, 1, Some(1), &statuses, &counts)
            })?,
        })
    }
}

impl PassiveCheck {
    fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        Ok(Self {
            kind: kind(map)?,
            healthy: fields::optional(map, "healthy", |value| {
                Outcome::from_json(value, 0, None, &PASSIVE_HEALTHY, &[("successes", 5)])
            })?,
            unhealthy: fields::optional(map, "unhealthy", |value| {
                let counts = [("http_failures", 5), ("tcp_failures", 2), ("timeouts", 7)];
                Outcome::from_json(value, 0, None, &[429, 500, 503], &counts)
            })?,
        })
    }
}

impl Outcome {
    /// Takes the statuses, the interval when it has a default, and the counts with theirs.
    fn from_json(
        value: &Value,
        least: i64,
        interval: Option<i64>,
        statuses: &[i64],
        counts: &[(&'static str, u8)],
    ) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let mut outcome = Self::default();
        if let Some(default) = interval {
            let given = fields::optional(map, "interval", |v| fields::integer(v, 1, i64::MAX))?;
            outcome.interval = Some(given.unwrap_or(default));
        }
        let given = |value| fields::unique_integers(value, 1, STATUSES);
        outcome.http_statuses =
            fields::optional(map, "http_statuses", given)?.unwrap_or_else(|| statuses.to_vec());
        for (name, default) in counts {
            let given = fields::optional(map, name, |v| fields::integer(v, least, COUNT_MAX))?;
            let count = given.map_or(*default, |count| count as u8);
            match *name {
                "successes" => outcome.successes = Some(count),
                "http_failures" => outcome.http_failures = Some(count),
                "tcp_failures" => outcome.tcp_failures = Some(count),
                _ => outcome.timeouts = Some(count),
            }
        }
        Ok(outcome)
    }
}

fn kind(map: &Object) -> Result<&'static str, Violation> {
    let given = fields::optional(map, "type", |value| fields::one_of(value, &TYPES))?;
    Ok(given.unwrap_or("http"))
}

fn lines(value: &Value) -> Result<Vec<String>, Violation> {
    let values = fields::array(value)?;
    if values.is_empty() {
        return Err(Violation::TooFewItems(1));
    }
    fields::items(values, fields::text)
}
