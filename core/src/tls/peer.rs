//! What is known of a client after its handshake.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{CipherSuite, ProtocolVersion};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha1::{Digest as _, Sha1};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Certificates, ServerTls, distinguished_name, suites};
use crate::reply::Failure;
use crate::request::put;
use crate::vars::Variable;

/// What a handshake came to, in plain values: whoever makes handshakes knows them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handshake<'a> {
    /// The version agreed upon.
    pub protocol: Option<ProtocolVersion>,
    /// The cipher suite agreed upon.
    pub cipher: Option<CipherSuite>,
    /// The protocol agreed upon by ALPN.
    pub alpn: Option<&'a [u8]>,
    /// The name in the client's hello, in lower case, without a dot at its end.
    pub server_name: Option<&'a str>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The certificates that the client has shown, its own first.
    pub certificates: Option<&'a [CertificateDer<'a>]>,
}

/// A client behind TLS.
#[derive(Debug, Clone)]
pub struct TlsPeer {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// The cipher suite by its name in OpenSSL, as nginx's `$ssl_cipher`.
    pub cipher: &'static str,
    /// The protocol agreed upon by ALPN; empty: none.
    pub alpn: Box<[u8]>,
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// The name that the certificate was chosen by: the client's, or `apisix.ssl.fallback_sni`.
    pub sni: Box<str>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The certificate that was shown to the client, with what it requires.
    pub server: Arc<ServerTls>,
    /// DER of the client's certificate.
    pub certificate: Option<Vec<u8>>,
    /// What was found out about it.
    pub verify: ClientVerify,
}

/// nginx's `$ssl_client_verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientVerify {
    /// No certificate was shown, or none was asked for.
    None,
    /// It leads to the required authority.
    Success,
    /// It does not, and why.
    Failed(String),
}

impl TlsPeer {
    /// The client of a handshake with `server`, which was found by the name `sni`. `now` decides
    /// over the client's certificate where the handshake left that open.
    pub fn of(handshake: &Handshake<'_>, sni: &str, server: Arc<ServerTls>, now: UnixTime) -> Self {
        let shown = handshake.certificates.filter(|chain| !chain.is_empty());
        let verify = match (shown, &server.client) {
            (Some(chain), Some(client)) if client.is_per_request() => client.verify(chain, now),
            // The handshake would have failed otherwise.
            (Some(_), Some(_)) => ClientVerify::Success,
            _ => ClientVerify::None,
        };
        Self {
            protocol: match handshake.protocol {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: handshake.cipher.map_or("", suites::openssl_name),
            alpn: handshake.alpn.unwrap_or_default().into(),
            server_name: handshake.server_name.map(Into::into),
            sni: sni.into(),
            resumed: handshake.resumed,
            server,
            certificate: shown.and_then(|chain| chain.first()).map(|leaf| leaf.to_vec()),
            verify,
        }
    }

    /// Whether a request for `host` (without port) and `path` (normalised) may be served on this
    /// connection (`apisix/init.lua`, `verify_https_client`).
    ///
    /// A host whose certificate has `client` needs a good certificate of the client, unless
    /// `skip_mtls_uri_regex` excepts the path, and a connection that was made for its name. All
    /// failures are answered with 400.
    pub fn admit(
        &self,
        certificates: &Certificates,
        host: &str,
        path: &str,
    ) -> Result<(), Failure> {
        if let Some(client) = &self.server.client
            && client.is_per_request()
            && !client.skips(path)
        {
            self.verified()?;
        }
        if !certificates.require_any() {
            return Ok(());
        }
        // As nginx has it in `$host`.
        let host = host.strip_suffix('.').unwrap_or(host);
        let has_upper = host.bytes().any(|byte| byte.is_ascii_uppercase());
        let host: Cow<'_, str> =
            if has_upper { host.to_ascii_lowercase().into() } else { host.into() };
        let Some(client) = certificates.find(&host).and_then(|server| server.client.as_ref())
        else {
            return Ok(());
        };
        // Of a certificate for `*.shop.com` another name is refused as well, as in APISIX.
        if *self.sni != *host {
            return Err(Failure::WrongServerName);
        }
        // Also where the requirement is younger than the connection.
        if client.skips(path) { Ok(()) } else { self.verified() }
    }

    fn verified(&self) -> Result<(), Failure> {
        match self.verify {
            ClientVerify::Success => Ok(()),
            ClientVerify::None => Err(Failure::NoClientCertificate),
            ClientVerify::Failed(_) => Err(Failure::BadClientCertificate),
        }
    }

    /// Appends the value of a `$ssl_` variable as nginx has it; `false` when it is not set, or not
    /// one of TLS.
    pub fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        match variable {
            Variable::SslProtocol => put(out, self.protocol.as_bytes()),
            Variable::SslCipher => put(out, self.cipher.as_bytes()),
            Variable::SslAlpnProtocol => !self.alpn.is_empty() && put(out, &self.alpn),
            Variable::SslServerName => {
                self.server_name.as_ref().is_some_and(|name| put(out, name.as_bytes()))
            }
            Variable::SslSessionReused => put(out, if self.resumed { b"r" } else { b"." }),
            Variable::SslClientVerify => match &self.verify {
                ClientVerify::None => put(out, b"NONE"),
                ClientVerify::Success => put(out, b"SUCCESS"),
                ClientVerify::Failed(reason) => {
                    put(out, b"FAILED:");
                    put(out, reason.as_bytes())
                }
            },
            _ => self.certificate.as_ref().is_some_and(|der| certificate(variable, der, out)),
        }
    }
}

/// Appends what a variable tells of a certificate.
fn certificate(variable: &Variable, der: &[u8], out: &mut Vec<u8>) -> bool {
    match variable {
        Variable::SslClientFingerprint => {
            let digest: [u8; 20] = Sha1::digest(der).into();
            hex(out, &digest, b"0123456789abcdef")
        }
        Variable::SslClientRawCert => put(out, pem(der).as_bytes()),
        Variable::SslClientCert => {
            let pem = pem(der);
            put(out, pem.trim_end().replace('\n', "\n\t").as_bytes())
        }
        Variable::SslClientEscapedCert => escape(&pem(der), out),
        Variable::SslClientSDn | Variable::SslClientIDn | Variable::SslClientSerial => {
            let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
            match variable {
                Variable::SslClientSDn => distinguished_name::append(parsed.subject(), out),
                Variable::SslClientIDn => distinguished_name::append(parsed.issuer(), out),
                _ => {
                    let bytes = parsed.raw_serial();
                    let start = bytes.iter().take_while(|byte| **byte == 0).count();
                    let bytes = if start == bytes.len() { &[0] } else { &bytes[start..] };
                    hex(out, bytes, b"0123456789ABCDEF")
                }
            }
        }
        _ => false,
    }
}

fn hex(out: &mut Vec<u8>, bytes: &[u8], digits: &[u8; 16]) -> bool {
    for byte in bytes {
        put(out, &[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
    }
    true
}

/// A certificate in PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (at, byte) in text.bytes().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(char::from(byte));
    }
    pem + "\n-----END CERTIFICATE-----\n"
}

/// Percent-encodes all but what RFC 3986 calls unreserved.
fn escape(text: &str, out: &mut Vec<u8>) -> bool {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            out.push(b'%');
            hex(out, &[byte], b"0123456789ABCDEF");
        }
    }
    true
}
