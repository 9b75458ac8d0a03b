//! Certificates: for clients by their names, for upstreams by their ids.

use std::sync::Arc;

use osmia_core::resource::{self, Key, SslType};
use osmia_core::tls::Material;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::nodes::NoNodes;
use super::{Compiler, Round, report, tls};
use crate::state::Serving;

impl Compiler {
    /// Puts a certificate in the place of the one with the same id.
    pub(super) fn set_certificate(
        &mut self,
        round: &mut Round<'_>,
        key: &Key,
        next: Option<(SslType, &Material)>,
    ) {
        if let Some(last) = self.servers.remove(&key.id) {
            self.certificates.remove(&last);
            round.changed = true;
        }
        self.identities.remove(&key.id);
        let stored = round.state.get(key);
        let (order, modified) = stored.map_or((0, 0), |stored| (stored.order, stored.modified));
        match next {
            Some((SslType::Client, material)) => {
                let identity = material.identity().cloned();
                self.identities.extend(identity.map(|it| (Arc::clone(&key.id), it)));
            }
            Some((SslType::Server, material)) => {
                match self.server_tls.compile(Arc::clone(&key.id), order, material) {
                    Ok(server) => {
                        let server = Arc::new(server);
                        self.certificates.insert(&server);
                        self.servers.insert(Arc::clone(&key.id), server);
                        round.changed = true;
                    }
                    Err(reason) => report(key, modified, &reason, Serving::Nothing, round.state),
                }
            }
            None => {}
        }
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
