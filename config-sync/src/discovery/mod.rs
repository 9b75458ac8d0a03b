//! Where upstreams' addresses come from when they are not written down: names of nodes from the
//! DNS, nodes of services from a [`Source`].
//!
//! The compiler says which [`Subject`]s it needs; [`Lookups`] follows them and tells what becomes
//! of them. Each `discovery_type` is a source with a file of its own here.

mod dns;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::select_all;
use osmia_core::resource::Node;
use osmia_core::settings::Settings;

use crate::dns::{Ask, Client, Counters, Options, Watch};
use dns::DnsSource;

/// A service whose nodes an upstream has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// `discovery_type`.
    pub kind: Arc<str>,
    /// `service_name`.
    pub name: Arc<str>,
    /// `discovery_args` as JSON; empty when there are none.
    pub args: Arc<str>,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

/// Something that upstreams need to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The addresses of a host name.
    Name(Arc<str>),
    /// The nodes of a service.
    Service(Arc<Service>),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Service(service) => service.fmt(f),
        }
    }
}

/// What a [`Subject`] turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// The addresses of a name, at least one.
    Addresses(Vec<IpAddr>),
    /// The nodes of a service; their hosts may be names again.
    Nodes(Vec<Node>),
}

/// What is known, or why nothing.
pub type Answer = Result<Known, Arc<str>>;

/// Knows the nodes of services: one implementation for each `discovery_type`.
#[async_trait]
pub trait Source: Send {
    /// The service's nodes are wanted from now on.
    fn follow(&mut self, service: Arc<Service>);

    /// They are not wanted any more.
    fn forget(&mut self, service: &Arc<Service>);

    /// Looks for all nodes again, and at the files that say how to.
    fn refresh(&mut self);

    /// Whether there is a service whose nodes have not been looked for yet.
    fn is_waiting(&self) -> bool;

    /// The next changes: the nodes of services, or why there are none, in which case nodes that
    /// were known before stay in use. Nothing may be lost when this is not waited for to the end.
    async fn changed(&mut self) -> Vec<(Arc<Service>, Result<Vec<Node>, Arc<str>>)>;
}

/// Follows all subjects, each where it belongs.
pub struct Lookups {
    options: Options,
    counters: Arc<Counters>,
    names: Watch<Arc<str>, Vec<IpAddr>>,
    sources: Vec<(&'static str, Box<dyn Source>)>,
}

impl Lookups {
    /// As `apisix.dns_resolver` and `discovery` say.
    pub fn new(settings: &Settings, counters: Arc<Counters>) -> Self {
        let options = Options::new(&settings.dns);
        let names = Watch::new(ask_for_names(&options, &counters), Arc::clone(&counters));
        let mut sources: Vec<(_, Box<dyn Source>)> = Vec::new();
        if let Some(dns) = &settings.discovery.dns {
            let source = DnsSource::new(dns, &settings.dns, Arc::clone(&counters));
            sources.push(("dns", Box::new(source)));
        }
        Self { options, counters, names, sources }
    }

    /// Follows what is `wanted`, after forgetting what is `unused`.
    pub fn follow(&mut self, wanted: Vec<Subject>, unused: &[Subject]) {
        for subject in unused {
            match subject {
                Subject::Name(name) => self.names.forget(name),
                Subject::Service(service) => {
                    if let Some(source) = self.source(&service.kind) {
                        source.forget(service);
                    }
                }
            }
        }
        for subject in wanted {
            match subject {
                Subject::Name(name) => self.names.follow(name),
                // Without a source the upstream was refused; see `Rules::undiscoverable`.
                Subject::Service(service) => {
                    if let Some(source) = self.source(&service.kind) {
                        source.follow(service);
                    }
                }
            }
        }
    }

    /// Looks everything up again, as `resolv.conf` and the hosts file say now.
    pub fn refresh(&mut self) {
        self.names.refresh(ask_for_names(&self.options, &self.counters));
        self.sources.iter_mut().for_each(|(_, source)| source.refresh());
    }

    /// Whether something has not been looked up at all yet.
    pub fn is_waiting(&self) -> bool {
        self.names.is_waiting() || self.sources.iter().any(|(_, source)| source.is_waiting())
    }

    /// The next changes. Nothing is lost when this is not waited for to the end.
    pub async fn changed(&mut self) -> Vec<(Subject, Answer)> {
        let names = self.names.changed().map(|changes| {
            let change = |(name, answer): (_, Result<_, _>)| {
                (Subject::Name(name), answer.map(Known::Addresses))
            };
            changes.into_iter().map(change).collect::<Vec<_>>()
        });
        let services = self.sources.iter_mut().map(|(_, source)| {
            let changed = source.changed().map(|changes| {
                let change = |(service, answer): (_, Result<_, _>)| {
                    (Subject::Service(service), answer.map(Known::Nodes))
                };
                changes.into_iter().map(change).collect::<Vec<_>>()
            });
            changed.boxed()
        });
        select_all(std::iter::once(names.boxed()).chain(services)).await.0
    }

    fn source(&mut self, kind: &str) -> Option<&mut Box<dyn Source>> {
        self.sources.iter_mut().find(|(name, _)| *name == kind).map(|(_, source)| source)
    }
}

fn ask_for_names(options: &Options, counters: &Arc<Counters>) -> Ask<Arc<str>, Vec<IpAddr>> {
    let client = Arc::new(Client::new(options, Arc::clone(counters)));
    Arc::new(move |name| {
        let client = Arc::clone(&client);
        Box::pin(async move { client.addresses(&name).await })
    })
}
