//! Looks at a contender before it is measured: what it negotiates, and that it does what is
//! counted.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use osmia_bench::{grpc, upstream::pattern_byte};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::handshake::client_config;
use super::material::{NAME, call};
use crate::contender::Ports;

/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The size of the body that is asked for.
const BODY_BYTES: u64 = 1024;

/// What OpenSSL's clients, and so wrk, negotiate with these settings.
pub(super) fn openssl(openssl: &Path, settings: &Path, addr: SocketAddr) -> Result<String> {
    let output = Command::new(openssl)
        .args(["s_client", "-brief", "-servername", NAME, "-connect", &addr.to_string()])
        .env("OPENSSL_CONF", settings)
        .stdin(Stdio::null())
        .output()
        .context("cannot run openssl")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    brief(&said).with_context(|| format!("no TLS for openssl s_client: {said}"))
}

/// Version, suite, signature and key exchange of `s_client -brief`.
fn brief(said: &str) -> Option<String> {
    let line = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
    let (version, suite) = (line("Protocol version: ")?, line("Ciphersuite: ")?);
    let (signature, key) = (line("Signature type: ")?, line("Server Temp Key: ")?);
    Some(format!("{version}, {suite}, {key}, signed by {signature}"))
}

/// One of the looks; each is a connection of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    /// HTTP/2 chosen by ALPN, a body.
    H2Tls,
    /// HTTP/2 by prior knowledge, a body.
    H2c,
    /// HTTP/2 by prior knowledge, a unary call.
    Grpc,
}

/// Fails when the contender does not do what is asked, or does it wrong.
pub(super) fn look(ports: Ports, look: Look) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = async {
        match look {
            Look::H2Tls => body(&mut speak(tls(ports.tls).await?).await?, "https").await,
            Look::H2c => body(&mut speak(tcp(ports.h2c).await?).await?, "http").await,
            Look::Grpc => unary(&mut speak(tcp(ports.h2c).await?).await?).await,
        }
    };
    runtime.block_on(async { timeout(LIMIT, work).await.context("no answer in time")? })
}

async fn tcp(addr: SocketAddr) -> Result<TcpStream> {
    Ok(TcpStream::connect(addr).await?)
}

async fn tls(addr: SocketAddr) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    let mut config = client_config()?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(NAME)?, tcp(addr).await?).await?;
    let chosen = stream.get_ref().1.alpn_protocol().unwrap_or_default();
    ensure!(chosen == b"h2", "ALPN gives {:?}", String::from_utf8_lossy(chosen));
    Ok(stream)
}

async fn speak<S>(stream: S) -> Result<SendRequest<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = h2::client::handshake(stream).await?;
    // What breaks the connection breaks the request as well, which says so.
    tokio::spawn(async move { drop(connection.await) });
    Ok(send.ready().await?)
}

async fn body(send: &mut SendRequest<Bytes>, scheme: &str) -> Result<()> {
    let uri = format!("{scheme}://{NAME}/bytes/{BODY_BYTES}");
    let (answer, _) = send.send_request(Request::get(uri).body(())?, true)?;
    let (data, _) = collect(answer.await?).await?;
    let right = data.len() as u64 == BODY_BYTES
        && data.iter().zip(0..).all(|(&byte, offset)| byte == pattern_byte(offset));
    ensure!(right, "a body of {} bytes is not the {BODY_BYTES} asked for", data.len());
    Ok(())
}

async fn unary(send: &mut SendRequest<Bytes>) -> Result<()> {
    let request = Request::post(format!("http://{NAME}{}", super::CALL_PATH))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut upload) = send.send_request(request, false)?;
    upload.send_data(call().into(), true)?;
    let answer = answer.await?;
    let kind = answer.headers().get("content-type").cloned();
    let (data, trailers) = collect(answer).await?;
    ensure!(kind.is_some_and(|kind| kind == "application/grpc"), "not of gRPC's type");
    let status = trailers.get("grpc-status");
    ensure!(status.is_some_and(|status| status == "0"), "trailers {trailers:?}");
    ensure!(data == grpc::answer(), "a message of {} bytes is not the upstream's", data.len());
    Ok(())
}

async fn collect(answer: Response<h2::RecvStream>) -> Result<(Bytes, HeaderMap)> {
    ensure!(answer.status() == 200, "status {}", answer.status());
    let mut body = answer.into_body();
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        data.extend_from_slice(&chunk);
    }
    Ok((data.into(), body.trailers().await?.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_s_client_says_is_read() {
        let said = "depth=0 CN = localhost\nCONNECTION ESTABLISHED\nProtocol version: TLSv1.3\n\
                    Ciphersuite: TLS_AES_128_GCM_SHA256\nPeer certificate: CN = localhost\n\
                    Hash used: SHA256\nSignature type: ECDSA\nVerification error: self-signed\n\
                    Server Temp Key: X25519, 253 bits\nDONE\n";
        let expected = "TLSv1.3, TLS_AES_128_GCM_SHA256, X25519, 253 bits, signed by ECDSA";
        assert_eq!(brief(said).as_deref(), Some(expected));
        assert_eq!(brief("connect:errno=111\n"), None);
    }
}
