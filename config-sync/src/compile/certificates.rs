//! Certificates: for clients by their names, for upstreams by their ids.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use osmia_core::resource::{self, Key, SslType};
use osmia_core::settings::TlsSettings;
use osmia_core::tls::{Material, ServerCompiler};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::nodes::NoNodes;
use super::{Compiler, Round, report, tls};
use crate::stapling::{Staple, Wanted};
use crate::state::Serving;

impl Compiler {
    /// How TLS is spoken from now on: with clients by these settings, and with nodes that are
    /// verified by the authorities in a file, or by the system's.
    pub fn set_tls(&mut self, settings: &TlsSettings, trusted: Option<PathBuf>) {
        self.server_tls = ServerCompiler::new(settings);
        self.builder.tls.trusted = trusted;
    }

    /// Puts a certificate in the place of the one with the same id.
    pub(super) fn set_certificate(
        &mut self,
        round: &mut Round<'_>,
        key: &Key,
        next: Option<(SslType, Material)>,
    ) {
        if let Some(last) = self.servers.remove(&key.id) {
            self.certificates.remove(&last);
            round.changed = true;
        }
        self.identities.remove(&key.id);
        let before = self.stapled.remove(&key.id);
        if before.is_some() {
            self.staple_changes.push((Arc::clone(&key.id), Vec::new()));
        }
        let stored = round.state.get(key);
        let (order, modified) = stored.map_or((0, 0), |stored| (stored.order, stored.modified));
        match next {
            Some((SslType::Client, material)) => {
                let identity = material.identity().cloned();
                self.identities.extend(identity.map(|it| (Arc::clone(&key.id), it)));
            }
            Some((SslType::Server, mut material)) => {
                if let Some(before) = &before {
                    material.keep_staples(before);
                }
                match self.server_tls.compile(Arc::clone(&key.id), order, &material) {
                    Ok(server) => {
                        let server = Arc::new(server);
                        self.certificates.insert(&server);
                        self.servers.insert(Arc::clone(&key.id), server);
                        round.changed = true;
                        self.want_staples(key, material);
                    }
                    Err(reason) => report(key, modified, &reason, Serving::Nothing, round.state),
                }
            }
            None => {}
        }
    }

    /// Has responders asked about a certificate, if it wants that.
    fn want_staples(&mut self, key: &Key, material: Material) {
        let Some(stapling) = material.stapling.clone() else { return };
        let ttl = Duration::from_secs(stapling.cache_ttl);
        let wanted = material.questions().filter_map(|question| match question {
            Ok(question) => Some(Wanted { question, verify: !stapling.skip_verify, ttl }),
            Err(reason) => {
                tracing::warn!(resource = %key, "no OCSP response is stapled: {reason}");
                None
            }
        });
        self.staple_changes.push((Arc::clone(&key.id), wanted.collect()));
        self.stapled.insert(Arc::clone(&key.id), material);
    }

    /// What is to be asked about which certificate since the last call, in place of what was.
    pub fn take_staple_changes(&mut self) -> Vec<(Arc<str>, Vec<Wanted>)> {
        std::mem::take(&mut self.staple_changes)
    }

    /// Takes a responder's answer. Whether [`Compiler::certificates`] are others now.
    pub fn staple(&mut self, staple: &Staple) -> bool {
        let known = self.stapled.get_mut(&staple.id).zip(self.servers.get_mut(&staple.id));
        let Some((material, server)) = known else { return false };
        if !material.staple(&staple.leaf, staple.response.as_deref()) {
            return false;
        }
        let next = Arc::new(self.server_tls.restaple(server, material));
        self.certificates.remove(server);
        self.certificates.insert(&next);
        *server = next;
        true
    }

    /// The certificate that an upstream shows to its nodes; `None`: none.
    pub(super) fn identity(
        &self,
        config: &resource::Upstream,
    ) -> Result<Option<Arc<CertifiedKey>>, NoNodes> {
        let tls = config.tls.as_ref().filter(|_| tls::is_tls(config));
        let Some(id) = tls.and_then(|tls| tls.client_cert_id.as_ref()) else {
            return tls::inline_identity(config, &self.rules.keyring).map_err(NoNodes::Tls);
        };
        let known = self.identities.get(id.as_str()).cloned();
        known.map(Some).ok_or_else(|| {
            let id = id.as_str();
            NoNodes::Tls(format!(
                "tls.client_cert_id: there is no usable ssl [{id}] of type client"
            ))
        })
    }
}
