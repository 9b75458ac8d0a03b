//! Which resource a path names.

use axum::http::StatusCode;
use osmia_core::resource::{Key, Kind};
use percent_encoding::percent_decode_str;

use super::reply::Reply;

/// What every path of the Admin API begins with.
pub(crate) const ROOT: &str = "/apisix/admin";

/// Longest part of a path, in bytes: several times what any id may have.
const SEGMENT_MAX: usize = 512;

/// A resource, or the collection that it would be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    /// The consumer of a credential, the service of a cost decoration, the manager of a secret.
    pub(crate) owner: Option<String>,
    /// `None`: the collection.
    pub(crate) id: Option<String>,
    /// What follows the id: the path of a node in the resource.
    pub(crate) rest: Vec<String>,
}

/// The decoded parts of the path below [`ROOT`], without empty ones.
pub(crate) fn segments(path: &str) -> Result<Vec<String>, Reply> {
    let below = path.strip_prefix(ROOT).unwrap_or(path);
    let decoded = percent_decode_str(below)
        .decode_utf8()
        .map_err(|_| Reply::bad("invalid path: it is not UTF-8 when decoded"))?;
    let mut segments = Vec::new();
    for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
        if segment == "." || segment == ".." || segment.len() > SEGMENT_MAX {
            return Err(Reply::bad("invalid path: a part of it is too long, or \".\" or \"..\""));
        }
        if segment.chars().any(char::is_control) {
            return Err(Reply::bad("invalid path: it has control characters"));
        }
        segments.push(segment.to_owned());
    }
    Ok(segments)
}

/// The kind behind the first part of a path.
pub(crate) fn kind(collection: &str) -> Option<Kind> {
    Some(match collection {
        "routes" => Kind::Route,
        "services" => Kind::Service,
        "upstreams" => Kind::Upstream,
        "consumers" => Kind::Consumer,
        "credentials" => Kind::Credential,
        "consumer_groups" => Kind::ConsumerGroup,
        "global_rules" => Kind::GlobalRule,
        "plugin_configs" => Kind::PluginConfig,
        "plugin_metadata" => Kind::PluginMetadata,
        "protos" => Kind::Proto,
        "ssls" => Kind::Ssl,
        "stream_routes" => Kind::StreamRoute,
        "secrets" => Kind::Secret,
        "graphql_cost_decorations" => Kind::GraphqlCost,
        _ => return None,
    })
}

impl Target {
    /// Reads the parts of a path.
    pub(crate) fn parse(segments: Vec<String>) -> Result<Self, Reply> {
        let mut parts = segments.into_iter();
        let Some(collection) = parts.next() else {
            return Err(Reply::error(StatusCode::NOT_FOUND, "not found"));
        };
        let Some(mut kind) = kind(&collection) else {
            let message = format!("Unsupported resource type: {collection}");
            return Err(Reply::error(StatusCode::NOT_FOUND, message));
        };
        let mut owner = None;
        let mut id = parts.next();
        let mut rest: Vec<String> = parts.collect();
        let nested = match kind {
            Kind::Credential => {
                let message = "Unsupported resource type: credentials, they are found below \
                               /apisix/admin/consumers/{username}";
                return Err(Reply::error(StatusCode::NOT_FOUND, message));
            }
            Kind::GraphqlCost => return Err(Reply::bad("missing service id")),
            Kind::Consumer => Some(("credentials", Kind::Credential)),
            Kind::Service => Some(("graphql_cost_decorations", Kind::GraphqlCost)),
            _ => None,
        };
        if let Some((_, inner)) = nested.filter(|(name, _)| rest.first().is_some_and(|r| r == name))
        {
            kind = inner;
            rest.remove(0);
            owner = id.take();
            id = next(&mut rest);
        } else if kind == Kind::Secret {
            owner = id.take();
            id = next(&mut rest);
        }
        Ok(Self { kind, owner, id, rest })
    }

    /// The path of the collection relative to the store's prefix, with a slash at the end.
    pub(crate) fn collection(&self) -> String {
        match (self.kind, &self.owner) {
            (Kind::Credential, Some(owner)) => format!("consumers/{owner}/credentials/"),
            (Kind::GraphqlCost, Some(owner)) => {
                format!("services/{owner}/graphql_cost_decorations/")
            }
            _ => format!("{}/", self.kind.collection()),
        }
    }

    /// The key of the member `id` of the collection.
    pub(crate) fn key(&self, id: &str) -> Key {
        match (self.kind, &self.owner) {
            (Kind::Credential, Some(owner)) => Key::credential(owner, id),
            (Kind::GraphqlCost, Some(owner)) => {
                Key::new(self.kind, &format!("{owner}/graphql_cost_decorations/{id}"))
            }
            (Kind::Secret, Some(owner)) => Key::new(self.kind, &format!("{owner}/{id}")),
            _ => Key::new(self.kind, id),
        }
    }
}

fn next(parts: &mut Vec<String>) -> Option<String> {
    (!parts.is_empty()).then(|| parts.remove(0))
}

/// The kind's name in messages about it, which for one kind is not [`Kind::singular`].
pub(crate) fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::PluginMetadata => "plugin_metadata",
        other => other.singular(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Target, Reply> {
        Target::parse(segments(path)?)
    }

    #[test]
    fn paths_name_resources() {
        for (path, kind, collection, key) in [
            ("/apisix/admin/routes", Kind::Route, "routes/", None),
            ("/apisix/admin/routes/", Kind::Route, "routes/", None),
            ("/apisix/admin//routes//1", Kind::Route, "routes/", Some("routes/1")),
            ("/apisix/admin/routes/%61", Kind::Route, "routes/", Some("routes/a")),
            ("/apisix/admin/consumers/jack", Kind::Consumer, "consumers/", Some("consumers/jack")),
            (
                "/apisix/admin/consumers/jack/credentials",
                Kind::Credential,
                "consumers/jack/credentials/",
                None,
            ),
            (
                "/apisix/admin/consumers/jack/credentials/c1",
                Kind::Credential,
                "consumers/jack/credentials/",
                Some("consumers/jack/credentials/c1"),
            ),
            (
                "/apisix/admin/services/1/graphql_cost_decorations/2",
                Kind::GraphqlCost,
                "services/1/graphql_cost_decorations/",
                Some("services/1/graphql_cost_decorations/2"),
            ),
            ("/apisix/admin/secrets/vault/1", Kind::Secret, "secrets/", Some("secrets/vault/1")),
            ("/apisix/admin/secrets/vault", Kind::Secret, "secrets/", None),
        ] {
            let target = parse(path).unwrap();
            assert_eq!((target.kind, target.collection().as_str()), (kind, collection), "{path}");
            let own = target.id.as_deref().map(|id| target.key(id).path());
            assert_eq!(own.as_deref(), key, "{path}");
            assert!(target.rest.is_empty());
        }
    }

    #[test]
    fn what_follows_the_id_is_kept() {
        let target = parse("/apisix/admin/secrets/vault/1/token").unwrap();
        assert_eq!(target.rest, ["token"]);
        let target = parse("/apisix/admin/routes/1/upstream/nodes").unwrap();
        assert_eq!(target.rest, ["upstream", "nodes"]);
        let target = parse("/apisix/admin/consumers/jack/other").unwrap();
        assert_eq!((target.kind, target.rest), (Kind::Consumer, vec!["other".to_owned()]));
    }

    #[test]
    fn hostile_paths_are_refused() {
        for (path, status) in [
            ("/apisix/admin/", 404),
            ("/apisix/admin/routs", 404),
            ("/apisix/admin/credentials", 404),
            ("/apisix/admin/graphql_cost_decorations", 400),
            ("/apisix/admin/routes/..", 400),
            ("/apisix/admin/routes/%2e%2e/x", 400),
            ("/apisix/admin/routes/a%00b", 400),
            ("/apisix/admin/routes/%ff", 400),
        ] {
            assert_eq!(parse(path).unwrap_err().status.as_u16(), status, "{path}");
        }
        let long = format!("/apisix/admin/routes/{}", "x".repeat(600));
        assert_eq!(parse(&long).unwrap_err().status.as_u16(), 400);
    }
}
