//! From stored text to typed resources.

use std::borrow::Cow;

use bytes::Bytes;
use osmia_core::resource::{self, Key, Kind, SslType, Status};
use osmia_core::rules::Rules;
use osmia_core::tls::Material;
use serde_json::{Map, Value};

use super::tls::inline_identity;
use crate::references::dependencies;

/// A stored text, read.
pub(super) struct Parsed {
    /// The resources it names.
    pub(super) references: Vec<Key>,
    /// The resource, or field and reason why it is none.
    pub(super) outcome: Result<Usable, String>,
}

/// A valid resource.
pub(super) struct Usable {
    pub(super) typed: Typed,
    /// What this gateway cannot do of it. Serving it without that could pass what it forbids.
    pub(super) lacking: Option<String>,
}

/// The kinds that snapshots are made of.
pub(super) enum Typed {
    Upstream(Box<resource::Upstream>),
    Service(Box<resource::Service>),
    Route(Box<resource::Route>),
    /// A certificate; `None`: it is one for clients that is disabled.
    Ssl(SslType, Option<Box<Material>>),
    /// A kind that acts through others, or not on requests at all.
    Other,
}

/// Texts from which on reading is spread over threads.
const PARALLEL: usize = 512;
/// Texts that a thread reads before it hands them over: bounds the memory that reading takes.
const CHUNK: usize = 512;

/// Reads texts, and hands them over in their order; a text is `None` for what is not stored. When
/// there are many, threads of their own read ahead of who takes them.
pub(super) fn in_order(
    rules: &Rules,
    texts: &[(&Key, Option<Bytes>)],
    mut take: impl FnMut(&Key, Option<Parsed>),
) {
    let one =
        |(key, text): &(&Key, Option<Bytes>)| text.as_ref().map(|text| parse(rules, key, text));
    // Asking for the number of processors reads files: not for a few texts.
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let threads = if texts.len() < PARALLEL { 1 } else { cores() };
    if threads == 1 {
        return texts.iter().for_each(|text| take(text.0, one(text)));
    }
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|first| {
                let (sender, read) = crossbeam_channel::bounded(1);
                let reader = scope.spawn(move || {
                    for chunk in texts.chunks(CHUNK).skip(first).step_by(threads) {
                        let parsed: Vec<_> = chunk.iter().map(one).collect();
                        if sender.send(parsed).is_err() {
                            return;
                        }
                    }
                });
                (read, reader)
            })
            .collect();
        for (chunk, (read, _)) in texts.chunks(CHUNK).zip(readers.iter().cycle()) {
            // A thread that panicked: its part again, here, where the panic is the caller's.
            let parsed = read.recv().unwrap_or_else(|_| chunk.iter().map(one).collect());
            for ((key, _), parsed) in chunk.iter().zip(parsed) {
                take(key, parsed);
            }
        }
        for (read, reader) in readers {
            drop(read);
            // Its panic has been dealt with.
            let _ = reader.join();
        }
    });
}

/// Reads one text.
pub(super) fn parse(rules: &Rules, key: &Key, text: &[u8]) -> Parsed {
    let value: Value = match serde_json::from_slice(text) {
        Ok(value) => value,
        Err(error) => {
            let outcome = Err(format!("not valid JSON: {error}"));
            return Parsed { references: Vec::new(), outcome };
        }
    };
    let references = value.as_object().map(|value| dependencies(key, value)).unwrap_or_default();
    Parsed { references, outcome: typed(rules, key, &value) }
}

fn typed(rules: &Rules, key: &Key, value: &Value) -> Result<Usable, String> {
    let refused = |violation: resource::Violation| format!("{violation:#}");
    let (typed, lacking) = match key.kind {
        Kind::Upstream => {
            let upstream = resource::Upstream::from_json(value).map_err(refused)?;
            inline_identity(&upstream, &rules.keyring)?;
            let lacking = upstream.unsupported();
            let lacking = lacking.or_else(|| rules.undiscoverable(Some(&upstream), false));
            (Typed::Upstream(Box::new(upstream)), lacking)
        }
        Kind::Service => {
            let service = resource::Service::from_json(value).map_err(refused)?;
            in_place(service.upstream.as_deref(), rules)?;
            let inline = || rules.undiscoverable(service.upstream.as_deref(), true);
            let lacking = service.unsupported().or_else(inline);
            (Typed::Service(Box::new(service)), lacking)
        }
        Kind::Route => {
            let mut route = resource::Route::from_json(value).map_err(refused)?;
            route.for_router(rules.router).map_err(refused)?;
            in_place(route.upstream.as_deref(), rules)?;
            let inline = || rules.undiscoverable(route.upstream.as_deref(), true);
            let lacking = route.unsupported().or_else(inline);
            (Typed::Route(Box::new(route)), lacking)
        }
        Kind::Ssl => {
            rules.check_stored(key.kind, &with_id(key, value))?;
            let ssl = resource::Ssl::from_json(value).map_err(refused)?;
            // APISIX uses one towards upstreams whatever its status.
            let is_used = ssl.kind == SslType::Client || ssl.status == Status::Enabled;
            let material = || Material::read(&ssl, &rules.keyring).map(Box::new);
            (Typed::Ssl(ssl.kind, is_used.then(material).transpose()?), None)
        }
        _ => {
            rules.check_stored(key.kind, &with_id(key, value))?;
            (Typed::Other, None)
        }
    };
    let plugins = value.get("plugins").and_then(Value::as_object);
    let lacking = lacking.or_else(|| unknown_plugin(rules, plugins?));
    Ok(Usable { typed, lacking })
}

/// Reads the certificate of an upstream that is written in another resource.
fn in_place(upstream: Option<&resource::Upstream>, rules: &Rules) -> Result<(), String> {
    let read = upstream.map(|upstream| inline_identity(upstream, &rules.keyring));
    read.transpose().map(|_| ()).map_err(|reason| format!("upstream.{reason}"))
}

/// The key says which resource it is, also where the text does not.
fn with_id<'v>(key: &Key, value: &'v Value) -> Cow<'v, Value> {
    let named = !matches!(key.kind, Kind::Consumer | Kind::Plugins | Kind::PluginMetadata);
    match value {
        Value::Object(map) if named && !map.contains_key("id") => {
            let mut map = map.clone();
            map.insert("id".to_owned(), key.own_id().into());
            Cow::Owned(Value::Object(map))
        }
        _ => Cow::Borrowed(value),
    }
}

/// The first plugin that does not exist here and must not be left out.
fn unknown_plugin(rules: &Rules, plugins: &Map<String, Value>) -> Option<String> {
    let is_disabled = |conf: &Value| conf.pointer("/_meta/disable") == Some(&Value::Bool(true));
    plugins
        .iter()
        .find(|(name, conf)| {
            rules.plugins.get(name).is_none() && !rules.unknown.skips(name) && !is_disabled(conf)
        })
        .map(|(name, _)| format!("unknown plugin [{name}]"))
}
