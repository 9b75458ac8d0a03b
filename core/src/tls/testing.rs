//! Certificates and handshakes for tests.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SerialNumber,
};
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use super::{Material, ServerCompiler, ServerTls, UpstreamTls, client_identity};
use crate::keyring::Keyring;
use crate::resource::Ssl;
use crate::settings::TlsSettings;

/// A certificate authority.
pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

/// Parameters of a certificate for these names, the first of which is its common name.
pub(super) fn params(names: &[&str]) -> CertificateParams {
    let own = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(own).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xff]));
    params
}

/// Parameters of an authority.
pub(super) fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(&[name]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// An authority that signs itself.
pub(super) fn root(name: &str) -> Authority {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::self_signed(authority_params(name), key).unwrap()
}

/// An authority that another one has signed.
pub(super) fn below(name: &str, issuer: &Authority) -> Authority {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::signed_by(authority_params(name), key, issuer).unwrap()
}

/// Certificate and key in PEM, signed by `issuer`.
pub(super) fn leaf(name: &str, issuer: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = params(&[name]).signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Certificate and key in PEM, signed by itself.
pub(super) fn alone(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = params(&[name]).self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// An `ssls` resource for `sni` with further fields.
pub(super) fn ssl(sni: &str, extra: &Value) -> Ssl {
    let (cert, key) = alone(sni);
    let mut value = json!({"cert": cert, "key": key, "sni": sni});
    for (name, field) in extra.as_object().unwrap() {
        value[name] = field.clone();
    }
    Ssl::from_json(&value).unwrap()
}

pub(super) fn material(ssl: &Ssl) -> Material {
    Material::read(ssl, &Keyring::default()).unwrap()
}

/// What serves `ssl` by the default settings.
pub(super) fn compiled(ssl: &Ssl) -> Arc<ServerTls> {
    let compiler = ServerCompiler::new(&TlsSettings::default());
    Arc::new(compiler.compile("1".into(), 0, &material(ssl)).unwrap())
}

/// A certificate under these names.
pub(super) fn server_for(id: &str, order: u64, snis: &[&str]) -> ServerTls {
    let ssl =
        Ssl { snis: snis.iter().map(|sni| (*sni).to_owned()).collect(), ..ssl("a", &json!({})) };
    ServerCompiler::new(&TlsSettings::default()).compile(id.into(), order, &material(&ssl)).unwrap()
}

/// A client that takes any certificate and shows this one (PEM).
pub(super) fn client(identity: Option<&(String, String)>) -> ClientConfig {
    let read = |(cert, key): &(String, String)| client_identity(&Keyring::default(), cert, key);
    let tls = UpstreamTls::new(identity.map(|pair| read(pair).unwrap()), None).unwrap();
    (*tls.config).clone()
}

/// Both ends of a connection.
pub(super) type Ends = (ClientConnection, ServerConnection);

/// Makes a handshake in memory, and lets both sides read what comes behind it.
pub(super) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<Ends, Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}
