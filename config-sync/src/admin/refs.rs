//! References from one resource to another.

use osmia_core::resource::{Key, Kind};

use crate::references::Excerpt;
pub(crate) use crate::references::id_text;
pub use crate::references::{Reference, Via, references};
use crate::state::{State, Stored};

/// What is missing when `reference` cannot be found, in APISIX's words.
pub(crate) fn missing(reference: &Reference, problem: &str) -> String {
    let id = &reference.key.id;
    match (reference.via, reference.key.kind) {
        (Via::Owner, kind) => format!("{kind} not found"),
        (Via::Superior, _) => format!("failed to fetch stream routes[{id}], {problem}"),
        (_, kind) => format!("failed to fetch {kind} info by {kind} id [{id}], {problem}"),
    }
}

/// The kinds whose members keep a resource of this kind from being deleted, in the order in which
/// they are asked.
fn holders(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::Upstream => &[
            Kind::Route,
            Kind::Service,
            Kind::PluginConfig,
            Kind::Consumer,
            Kind::ConsumerGroup,
            Kind::GlobalRule,
        ],
        Kind::Service => &[Kind::Route, Kind::StreamRoute],
        Kind::PluginConfig => &[Kind::Route],
        Kind::ConsumerGroup => &[Kind::Consumer],
        Kind::Proto => &[Kind::Route, Kind::Service],
        Kind::StreamRoute => &[Kind::StreamRoute],
        _ => &[],
    }
}

/// Whether others can keep a resource of this kind from being deleted.
pub fn is_guarded(kind: Kind) -> bool {
    !holders(kind).is_empty()
}

/// Why the resource cannot be deleted: who still uses it, in APISIX's words.
pub fn in_use(state: &State, key: &Key) -> Option<String> {
    let users: Vec<&Key> = state.users(key).collect();
    holders(key.kind).iter().find_map(|holder| {
        users.iter().filter(|user| user.kind == *holder).find_map(|user| {
            let via = state.get(user).and_then(|stored| connection(user, stored, key))?;
            Some(refusal(key.kind, user, via))
        })
    })
}

/// How the stored resource refers to `used`; by id, when it does so in several ways.
fn connection(user: &Key, stored: &Stored, used: &Key) -> Option<Via> {
    let all = Excerpt::of(&stored.value).references(user);
    let mut ways = all.iter().filter(|reference| reference.key == *used).map(|found| found.via);
    let first = ways.next()?;
    Some(if ways.any(|via| via == Via::Id) { Via::Id } else { first })
}

fn refusal(kind: Kind, user: &Key, via: Via) -> String {
    let id = user.own_id();
    let name = match user.kind {
        Kind::PluginConfig => "plugin_config",
        Kind::ConsumerGroup => "consumer_group",
        Kind::GlobalRule => "global_rules",
        Kind::StreamRoute if kind == Kind::Service => "stream_route",
        other => other.singular(),
    };
    match (kind, via) {
        (Kind::Service, _) => {
            format!("can not delete this service directly, {name} [{id}] is still using it now")
        }
        (Kind::StreamRoute, _) => format!(
            "can not delete this stream route directly, {name} [{id}] is still using it as \
             superior_id"
        ),
        (Kind::Upstream, Via::Plugin) => {
            format!("can not delete this upstream, plugin in {name} [{id}] is still using it now")
        }
        (kind, _) => format!("can not delete this {kind}, {name} [{id}] is still using it now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_missing_references_are_apisix() {
        let text = |path: &str, via| {
            missing(&Reference { key: Key::parse(path).unwrap(), via }, "response code: 404")
        };
        assert_eq!(
            text("plugin_configs/not_found", Via::Id),
            "failed to fetch plugin config info by plugin config id [not_found], response code: 404"
        );
        assert_eq!(
            text("ssls/9", Via::ClientCertificate),
            "failed to fetch ssl info by ssl id [9], response code: 404"
        );
        assert_eq!(
            text("stream_routes/999", Via::Superior),
            "failed to fetch stream routes[999], response code: 404"
        );
        assert_eq!(text("consumers/x", Via::Owner), "consumer not found");
    }
}
