//! From stored resources to a snapshot's router, change by change.
//!
//! The [`Compiler`] is told which keys changed. It compiles these and whatever depends on them, and
//! leaves the rest as it is: the same `Arc` means the same content. An item that cannot be used is
//! put into quarantine and takes nobody along: its last valid version stays in force, or, where
//! leaving something out could let pass what it forbids, requests that need it are refused.

mod certificates;
mod names;
mod nodes;
mod parse;
mod slots;
mod tls;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::{HashMap, HashSet};
use bytes::Bytes;
use osmia_core::reply::Failure;
use osmia_core::resource::{self, Key, Kind, Status};
use osmia_core::router::{Conditions, MethodSet, PathPattern, Router};
use osmia_core::rules::Rules;
use osmia_core::settings::TlsSettings;
use osmia_core::snapshot::{self, Upstream};
use osmia_core::tls::{Certificates, Material, ServerCompiler, ServerTls};
use tokio_rustls::rustls::sign::CertifiedKey;

use nodes::NoNodes;
use parse::{Parsed, Typed};
use upstreams::Builder;
pub use upstreams::{CheckChange, Checked};

use crate::discovery::{Answer, Subject};
use crate::references::Excerpt;
use crate::stapling::Wanted;
use crate::state::{Quarantined, Serving, State, Stored};

/// Where requests of a route go, or why nowhere.
type Target = Result<Arc<Upstream>, Failure>;

/// A key whose stored text changed, with what was stored before.
#[derive(Debug)]
pub struct Changed {
    /// The key.
    pub key: Key,
    /// What the state held before; `None`: nothing.
    pub before: Option<Stored>,
}

/// Holds what is compiled, and compiles what changes.
pub struct Compiler {
    rules: Arc<Rules>,
    builder: Builder,
    upstreams: HashMap<Arc<str>, Target>,
    services: HashMap<Arc<str>, Service>,
    plugin_configs: HashMap<Arc<str>, Result<(), Failure>>,
    /// Global rules that cannot be honoured: all requests are refused while there are any.
    closed: BTreeSet<Arc<str>>,
    routes: HashMap<Arc<str>, Arc<snapshot::Route>>,
    router: Router,
    certificates: Certificates,
    server_tls: ServerCompiler,
    /// Certificates for clients, by id: what is in `certificates`.
    servers: HashMap<Arc<str>, Arc<ServerTls>>,
    /// What certificates with `ocsp_stapling` were made of, by id.
    stapled: HashMap<Arc<str>, Material>,
    staple_changes: Vec<(Arc<str>, Vec<Wanted>)>,
    /// Certificates for upstreams, by id.
    identities: HashMap<Arc<str>, Arc<CertifiedKey>>,
}

/// What routes take from their service.
struct Service {
    hosts: Box<[Box<str>]>,
    target: Option<Target>,
    enable_websocket: Option<bool>,
    /// Why no route of it can be served.
    refusal: Option<Failure>,
}

/// What can be done with a stored resource.
enum Examined {
    /// Nothing: it is not there, or never was valid.
    Absent,
    /// Requests that need it are refused.
    Refused,
    /// It is used.
    Usable(Typed),
}

/// Keys to compile.
type Dirty = BTreeMap<Kind, HashSet<Key>>;

/// One update under way.
struct Round<'s> {
    state: &'s mut State,
    /// What was stored before, of the keys that changed.
    before: HashMap<Key, Option<Stored>>,
    changed: bool,
}

impl Compiler {
    /// A compiler of an empty state.
    pub fn new(rules: Arc<Rules>) -> Self {
        let router = Router::new(rules.router);
        Self {
            rules,
            builder: Builder::default(),
            upstreams: HashMap::default(),
            services: HashMap::default(),
            plugin_configs: HashMap::default(),
            closed: BTreeSet::new(),
            routes: HashMap::default(),
            router,
            certificates: Certificates::default(),
            server_tls: ServerCompiler::new(&TlsSettings::default()),
            servers: HashMap::default(),
            stapled: HashMap::default(),
            staple_changes: Vec::new(),
            identities: HashMap::default(),
        }
    }

    /// Takes `checks` of upstreams for absent, from now on
    /// (`apisix.disable_upstream_healthcheck`).
    pub fn disable_checks(&mut self) {
        self.builder.without_checks = true;
    }

    /// What has to be checked otherwise since the last call, in the order in which it came about.
    pub fn take_check_changes(&mut self) -> Vec<CheckChange> {
        self.builder.take_check_changes()
    }

    /// The router that is in force.
    pub fn router(&self) -> Router {
        if self.closed.is_empty() { self.router.clone() } else { refusing(Failure::Quarantined) }
    }

    /// The certificates that are in force.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Follows `state`, in which `changed` keys have their new values already. Whether
    /// [`Compiler::router`] is another one now.
    pub fn update(&mut self, state: &mut State, changed: Vec<Changed>) -> bool {
        let mut dirty = Dirty::new();
        let mut before = HashMap::default();
        for Changed { key, before: stored } in changed {
            mark(state, &key, &mut dirty);
            before.insert(key, stored);
        }
        self.run(Round { state, before, changed: false }, &dirty)
    }

    /// Takes what became of names and services. Whether [`Compiler::router`] is another one now.
    pub fn resolved(&mut self, state: &mut State, answers: Vec<(Subject, Answer)>) -> bool {
        let mut dirty = Dirty::new();
        for (subject, answer) in answers {
            for user in self.builder.names.answer(&subject, answer) {
                mark(state, &user, &mut dirty);
            }
        }
        self.run(Round { state, before: HashMap::default(), changed: false }, &dirty)
    }

    /// What is to be looked up from now on, and what no more; the latter goes first.
    pub fn subjects(&mut self) -> (Vec<Subject>, Vec<Subject>) {
        (self.builder.names.take_unasked(), self.builder.names.take_unused())
    }

    fn run(&mut self, mut round: Round<'_>, dirty: &Dirty) -> bool {
        for kind in Kind::ALL {
            let mut keys: Vec<&Key> = dirty.get(&kind).into_iter().flatten().collect();
            keys.sort_unstable();
            let text = |key: &Key| round.state.get(key).map(|stored| stored.value.clone());
            let texts: Vec<_> = keys.into_iter().map(|key| (key, text(key))).collect();
            parse::in_order(&Arc::clone(&self.rules), &texts, |key, parsed| {
                let examined = self.examine(&mut round, key, parsed);
                let names = self.builder.names.begin(key);
                self.take(&mut round, key, examined);
                self.builder.names.end(key, names);
            });
        }
        self.builder.settle();
        round.changed
    }

    /// Decides what is done with a resource, and keeps the quarantine and the references.
    fn examine(&self, round: &mut Round<'_>, key: &Key, parsed: Option<Parsed>) -> Examined {
        let before = round.before.remove(key);
        let state = &mut *round.state;
        let Some(parsed) = parsed else {
            state.quarantine.remove(key);
            let fallback = state.fallback.remove(key);
            follow_references(state, key, before.as_ref(), fallback.as_ref(), &[]);
            return Examined::Absent;
        };
        let mut references = parsed.references;
        let reason = match parsed.outcome {
            Ok(usable) => {
                let fallback = state.fallback.remove(key);
                if before.is_some() {
                    follow_references(state, key, before.as_ref(), fallback.as_ref(), &references);
                }
                return settle(state, key, usable);
            }
            Err(reason) => reason,
        };
        let last_fallback = state.fallback.get(key).cloned();
        let never_valid =
            state.quarantine.get(key).is_some_and(|item| item.serving == Serving::Nothing);
        if let Some(Some(before)) = &before
            && !never_valid
        {
            state.fallback.entry(key.clone()).or_insert_with(|| before.value.clone());
        }
        let fallback = state.fallback.get(key).cloned();
        let last = fallback.map(|text| parse::parse(&self.rules, key, &text));
        // What is stored counts for who asks whether something is in use, what is in force for who
        // has to follow its changes.
        references.extend(last.iter().flat_map(|last| last.references.iter().cloned()));
        if before.is_some() {
            follow_references(state, key, before.as_ref(), last_fallback.as_ref(), &references);
        }
        let last = last.and_then(|last| last.outcome.ok());
        let serving = if last.is_some() { Serving::LastValid } else { Serving::Nothing };
        report(key, modified(state, key), &reason, serving, state);
        match last {
            None => Examined::Absent,
            Some(usable) if usable.lacking.is_some() => Examined::Refused,
            Some(usable) => Examined::Usable(usable.typed),
        }
    }

    /// Puts a resource where it belongs.
    fn take(&mut self, round: &mut Round<'_>, key: &Key, examined: Examined) {
        match (key.kind, examined) {
            (Kind::Upstream, Examined::Usable(Typed::Upstream(config))) => {
                let last = self.upstreams.get(&key.id).cloned().and_then(Result::ok);
                let target = self.build(round, key, &key.id, &config, last.as_ref());
                self.set_upstream(key, Some(target));
            }
            (Kind::Upstream, Examined::Refused) => {
                self.set_upstream(key, Some(Err(Failure::Quarantined)));
            }
            (Kind::Upstream, _) => self.set_upstream(key, None),
            (Kind::Service, Examined::Usable(Typed::Service(config))) => {
                let service = self.service(round, key, &config);
                self.set_service(key, Some(service));
            }
            (Kind::Service, Examined::Refused) => {
                let refusal = Some(Failure::Quarantined);
                let hosts = [].into();
                let service = Service { hosts, target: None, enable_websocket: None, refusal };
                self.set_service(key, Some(service));
            }
            (Kind::Service, _) => self.set_service(key, None),
            (Kind::PluginConfig, Examined::Absent) => {
                self.plugin_configs.remove(&key.id);
            }
            (Kind::PluginConfig, examined) => {
                let refused = matches!(examined, Examined::Refused);
                let usable = if refused { Err(Failure::Quarantined) } else { Ok(()) };
                self.plugin_configs.insert(Arc::clone(&key.id), usable);
            }
            (Kind::GlobalRule, examined) => {
                let was_open = self.closed.is_empty();
                if matches!(examined, Examined::Refused) {
                    self.closed.insert(Arc::clone(&key.id));
                } else {
                    self.closed.remove(&key.id);
                }
                round.changed |= was_open != self.closed.is_empty();
            }
            (Kind::Route, Examined::Usable(Typed::Route(config))) => {
                let route = self.route(round, key, *config);
                round.changed |= self.set_route(key, route);
            }
            (Kind::Route, Examined::Refused) => {
                let route = self.refused_route(round, key);
                round.changed |= self.set_route(key, route);
            }
            (Kind::Route, _) => round.changed |= self.set_route(key, None),
            (Kind::Ssl, Examined::Usable(Typed::Ssl(kind, Some(material)))) => {
                self.set_certificate(round, key, Some((kind, *material)));
            }
            (Kind::Ssl, _) => self.set_certificate(round, key, None),
            _ => {}
        }
    }

    /// An upstream with its addresses. While names are asked for the last version stays. A name
    /// that had addresses keeps them, so one that cannot be resolved is a new one: the nodes of
    /// before are not those that are wanted.
    fn build(
        &mut self,
        round: &mut Round<'_>,
        user: &Key,
        id: &Arc<str>,
        config: &resource::Upstream,
        last: Option<&Arc<Upstream>>,
    ) -> Target {
        let identity = self.identity(config);
        let built = identity.and_then(|it| self.builder.build(id, config, it, user, last));
        match built {
            Ok(upstream) => Ok(upstream),
            Err(NoNodes::Pending) => last.cloned().ok_or(Failure::NoNode),
            Err(NoNodes::Unresolved(reason)) => {
                report(user, modified(round.state, user), &reason, Serving::Nothing, round.state);
                Err(Failure::NoNode)
            }
            Err(NoNodes::Tls(reason)) => {
                report(user, modified(round.state, user), &reason, Serving::Nothing, round.state);
                Err(Failure::NoCertificate)
            }
        }
    }

    fn set_upstream(&mut self, key: &Key, target: Option<Target>) {
        let last = match &target {
            Some(target) => self.upstreams.insert(Arc::clone(&key.id), target.clone()),
            None => self.upstreams.remove(&key.id),
        };
        self.retire(last.as_ref(), target.as_ref());
    }

    /// Gives up what `last` held, unless `next` is the same.
    fn retire(&mut self, last: Option<&Target>, next: Option<&Target>) {
        let (Some(Ok(last)), next) = (last, next) else { return };
        if !matches!(next, Some(Ok(next)) if Arc::ptr_eq(last, next)) {
            self.builder.release(last);
        }
    }

    /// The target that `upstream_id` and `upstream` of a resource name. `upstream_id` wins, as in
    /// APISIX.
    fn target(
        &mut self,
        round: &mut Round<'_>,
        key: &Key,
        upstream_id: Option<&resource::Id>,
        inline: Option<&resource::Upstream>,
        last: Option<&Arc<Upstream>>,
    ) -> Option<Target> {
        if let Some(id) = upstream_id {
            let known = self.upstreams.get(id.as_str());
            return Some(known.cloned().unwrap_or(Err(Failure::NoUpstream)));
        }
        let config = inline?;
        let id: Arc<str> = format!("{}#{}", key.kind, key.id).into();
        let last = last.filter(|last| last.id == id);
        Some(self.build(round, key, &id, config, last))
    }

    fn service(&mut self, round: &mut Round<'_>, key: &Key, config: &resource::Service) -> Service {
        let last = self.services.get(&key.id).and_then(|service| service.target.clone());
        let last = last.and_then(Result::ok);
        let inline = config.upstream.as_deref();
        let target = self.target(round, key, config.upstream_id.as_ref(), inline, last.as_ref());
        Service {
            hosts: config.hosts.iter().map(|host| host.as_str().into()).collect(),
            target,
            enable_websocket: config.enable_websocket,
            refusal: None,
        }
    }

    fn set_service(&mut self, key: &Key, service: Option<Service>) {
        let next = service.as_ref().and_then(|service| service.target.clone());
        let last = match service {
            Some(service) => self.services.insert(Arc::clone(&key.id), service),
            None => self.services.remove(&key.id),
        };
        let own = |target: &Option<Target>| is_inline(target.as_ref(), key);
        let last = last.and_then(|service| Some(service.target).filter(own).flatten());
        self.retire(last.as_ref(), next.as_ref());
    }

    /// The route, or `None` for a disabled one.
    fn route(
        &mut self,
        round: &mut Round<'_>,
        key: &Key,
        config: resource::Route,
    ) -> Option<snapshot::Route> {
        if config.status == Status::Disabled {
            return None;
        }
        // Checked when the resource was read.
        let conditions = config.conditions().ok()?;
        for problem in conditions.iter().flat_map(Conditions::invalid_patterns) {
            tracing::warn!(resource = %key, "vars: {problem}; its condition never holds");
        }
        let last = self.routes.get(&key.id).and_then(|route| route.upstream.clone().ok());
        let inline = config.upstream.as_deref();
        let own = self.target(round, key, config.upstream_id.as_ref(), inline, last.as_ref());
        let plugin_config = match &config.plugin_config_id {
            Some(id) => self
                .plugin_configs
                .get(id.as_str())
                .copied()
                .unwrap_or(Err(Failure::NoPluginConfig)),
            None => Ok(()),
        };
        let service = match &config.service_id {
            Some(id) => Some(self.services.get(id.as_str()).ok_or(Failure::NoService)),
            None => None,
        };
        let refusal = match (&plugin_config, &service) {
            (Err(failure), _) | (_, Some(Err(failure))) => Some(*failure),
            (_, Some(Ok(service))) => service.refusal,
            _ => None,
        };
        if refusal.is_some() {
            self.discard(key, own.as_ref(), last.as_ref());
        }
        let service = config.service_id.as_ref().and_then(|id| self.services.get(id.as_str()));
        let target = own.or_else(|| service.and_then(|service| service.target.clone()));
        let target = match refusal {
            Some(failure) => Err(failure),
            None => target.unwrap_or(Err(Failure::NoNode)),
        };
        let websocket = config
            .enable_websocket
            .or_else(|| service.and_then(|service| service.enable_websocket));
        let hosts = match service {
            Some(service) if config.hosts.is_empty() => service.hosts.clone(),
            _ => config.hosts.iter().map(|host| host.as_str().into()).collect(),
        };
        let timeout = config.timeout.map(|timeout| timeout.compile());
        let has_extras = conditions.is_some() || timeout.is_some();
        Some(snapshot::Route {
            id: Arc::clone(&key.id),
            name: config.meta.name.as_deref().unwrap_or_default().into(),
            hosts,
            // What is kept is allocated here: texts are read on threads whose memory is given back
            // as a whole only if nothing of it stays in use.
            uris: config.uris.iter().cloned().collect(),
            methods: MethodSet::of(&config.methods),
            priority: config.priority,
            order: round.state.get(key).map_or(0, |stored| stored.order),
            upstream: target,
            extras: has_extras.then(|| Box::new(snapshot::Extras { conditions, timeout })),
            enable_websocket: websocket.unwrap_or(true),
        })
    }

    /// Gives up what was built for a resource that cannot use it. What is in force still, `last`,
    /// is given up when the resource is put in place.
    fn discard(&mut self, key: &Key, built: Option<&Target>, last: Option<&Arc<Upstream>>) {
        let Some(Ok(upstream)) = built else { return };
        let in_force = last.is_some_and(|last| Arc::ptr_eq(last, upstream));
        if !in_force && is_inline(built, key) {
            self.builder.release(upstream);
        }
    }

    /// A route that matches as the stored one does, and refuses what it matches.
    fn refused_route(&mut self, round: &mut Round<'_>, key: &Key) -> Option<snapshot::Route> {
        let text = round.state.effective(key)?;
        let Ok(usable) = parse::parse(&self.rules, key, &text).outcome else { return None };
        let Typed::Route(config) = usable.typed else { return None };
        // Without what it cannot do, so that nothing of it is put in place.
        let config = resource::Route { upstream: None, upstream_id: None, ..*config };
        let mut route = self.route(round, key, config)?;
        route.upstream = Err(Failure::Quarantined);
        Some(route)
    }

    /// Puts a route in the place of the one with the same id. Whether that changes anything.
    fn set_route(&mut self, key: &Key, route: Option<snapshot::Route>) -> bool {
        let last = self.routes.get(&key.id).cloned();
        if let (Some(last), Some(route)) = (&last, &route)
            && is_same(last, route)
        {
            return false;
        }
        let route = route.map(Arc::new);
        match (&last, &route) {
            (Some(last), Some(route)) => self.router.replace(last, route),
            (Some(last), None) => self.router.remove(last),
            (None, Some(route)) => self.router.insert(route),
            (None, None) => return false,
        }
        if let Some(last) = &last
            && is_inline(Some(&last.upstream), key)
        {
            self.retire(Some(&last.upstream), route.as_ref().map(|route| &route.upstream));
        }
        match route {
            Some(route) => self.routes.insert(Arc::clone(&key.id), route),
            None => self.routes.remove(&key.id),
        };
        true
    }
}

/// Replaces what the texts that were stored and in force before referred to. Mostly it is the same.
fn follow_references(
    state: &mut State,
    key: &Key,
    before: Option<&Option<Stored>>,
    fallback: Option<&Bytes>,
    references: &[Key],
) {
    let before = before.and_then(|before| before.as_ref()).map(|before| &before.value);
    let texts = [before, fallback].into_iter().flatten();
    let last: Vec<Key> = texts.flat_map(|text| Excerpt::of(text).dependencies(key)).collect();
    if last != references {
        state.remove_references(key, &last);
        state.add_references(key, references);
    }
}

/// Marks a key and all that depend on it.
fn mark(state: &State, key: &Key, dirty: &mut Dirty) {
    if dirty.entry(key.kind).or_default().insert(key.clone()) {
        for user in state.users(key) {
            mark(state, user, dirty);
        }
    }
}

/// The revision that brought what is stored.
fn modified(state: &State, key: &Key) -> u64 {
    state.get(key).map_or(0, |stored| stored.modified)
}

/// A valid resource, unless this gateway lacks something of it.
fn settle(state: &mut State, key: &Key, usable: parse::Usable) -> Examined {
    match usable.lacking {
        Some(reason) => {
            report(key, modified(state, key), &reason, Serving::Refusal, state);
            Examined::Refused
        }
        None => {
            if state.quarantine.remove(key).is_some() {
                tracing::info!(resource = %key, "usable again");
            }
            Examined::Usable(usable.typed)
        }
    }
}

/// Puts a resource into quarantine, and says so once.
fn report(key: &Key, modified: u64, reason: &str, serving: Serving, state: &mut State) {
    let item = Quarantined { modified, reason: reason.to_owned(), serving };
    if state.quarantine.get(key) == Some(&item) {
        return;
    }
    let served = match serving {
        Serving::LastValid => "its last valid version stays in force",
        Serving::Nothing => "it is left out",
        Serving::Refusal => "requests that need it are answered with 503",
    };
    tracing::error!(resource = %key, revision = modified, "not usable: {reason}; {served}");
    state.quarantine.insert(key.clone(), item);
}

/// Whether the upstream is written in the resource `key` itself.
fn is_inline(target: Option<&Target>, key: &Key) -> bool {
    let Some(Ok(upstream)) = target else { return false };
    upstream
        .id
        .strip_prefix(key.kind.singular())
        .and_then(|rest| rest.strip_prefix('#'))
        .is_some_and(|id| *id == *key.id)
}

/// Whether two routes are equal and have the very same upstream.
fn is_same(a: &snapshot::Route, b: &snapshot::Route) -> bool {
    let same_upstream = match (&a.upstream, &b.upstream) {
        (Ok(a), Ok(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_err() && b.is_err(),
    };
    same_upstream && a == b
}

/// A router that answers every request with `failure`.
pub fn refusing(failure: Failure) -> Router {
    let uris: Vec<PathPattern> = PathPattern::parse("*").into_iter().collect();
    Router::build([Arc::new(snapshot::Route {
        id: "".into(),
        name: "".into(),
        hosts: [].into(),
        uris: uris.into(),
        methods: MethodSet::ANY,
        priority: 0,
        order: 0,
        upstream: Err(failure),
        extras: None,
        enable_websocket: false,
    })])
}
