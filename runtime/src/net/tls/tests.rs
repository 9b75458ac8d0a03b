use std::future::poll_fn;
use std::net::SocketAddr;

use osmia_core::tls::provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::handshake::{Choice, HandshakeError};
use crate::buf::{Buf, Class};
use crate::net::sim::{Conditions, SimNet};
use crate::net::stack::Stack;
use crate::net::{Conn, Net, Rx, Transport, Tx};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

type Secure = Conn<Stack<SimNet>>;

const GATEWAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// Rough weather: everything is cut and delayed.
const ROUGH: Conditions =
    Conditions { delay_us: 500, window: 5000, cut: true, ..Conditions::PERFECT };

fn configs(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

async fn receive(conn: &mut Secure, class: Class) -> std::io::Result<Buf> {
    conn.rx.start(Buf::new(class), false);
    let (result, buf) = poll_fn(|cx| conn.rx.poll(cx)).await;
    result.map(|_| buf)
}

async fn send(conn: &mut Secure, bytes: &[u8]) {
    conn.tx.start(Buf::copy_of(bytes));
    poll_fn(|cx| conn.tx.poll(cx)).await.unwrap();
}

async fn read_exactly(conn: &mut Secure, len: usize, class: Class) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let buf = receive(conn, class).await.unwrap();
        assert!(!buf.is_empty(), "ended after {} of {len}", all.len());
        all.extend_from_slice(buf.bytes());
    }
    all
}

fn payload(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8 ^ salt).collect()
}

type Told = Rc<RefCell<Vec<String>>>;

/// Serves one connection: echoes what `sizes` says, then closes in good order.
fn listen(net: &SimNet, config: &Arc<ServerConfig>, sizes: &'static [usize], told: &Told) {
    let (spawner, config, told) = (net.clone(), Arc::clone(config), Rc::clone(told));
    net.listen(GATEWAY, move |conn, _| {
        let (config, told) = (Arc::clone(&config), Rc::clone(&told));
        spawner.spawn(async move {
            let mut conn = Stack::plain(conn);
            conn.rx.start(Buf::new(Class::Small), false);
            let (result, first) = poll_fn(|cx| conn.rx.poll(cx)).await;
            result.unwrap();
            let choose = |name: Option<&str>| match name {
                Some("a.test") => Ok(Choice { config, of: "a.test" }),
                other => Err(HandshakeError::NoCertificate(format!("{other:?}"))),
            };
            let mut conn = match Stack::<SimNet>::secure(conn, first, choose).await {
                Ok((conn, name)) => {
                    told.borrow_mut().push(name.to_owned());
                    conn
                }
                Err(error) => return told.borrow_mut().push(error.to_string()),
            };
            for size in sizes {
                let all = read_exactly(&mut conn, *size, Class::Large).await;
                send(&mut conn, &all).await;
            }
            conn.tx.shutdown();
            let end = receive(&mut conn, Class::Small).await;
            told.borrow_mut().push(format!("{:?}", end.map(|buf| buf.len())));
        });
    });
}

fn exchange(
    seed: u64,
    weather: Conditions,
    versions: &[&'static rustls::SupportedProtocolVersion],
) {
    const SIZES: &[usize] = &[1, 1000, 16_384, 16_385, 65_536, 200_000, 3];
    let net = SimNet::new(seed, weather);
    let (server, client) = configs(versions);
    let told = Told::default();
    listen(&net, &server, SIZES, &told);
    let (dialer, log) = (Stack(net.clone()), Rc::clone(&told));
    net.spawn(async move {
        let conn = dialer.connect(GATEWAY).await.unwrap();
        let mut conn = Stack::<SimNet>::secure_upstream(conn, client, "a.test").await.unwrap();
        for (salt, size) in SIZES.iter().enumerate() {
            let sent = payload(*size, salt as u8);
            for part in sent.chunks(50_000) {
                send(&mut conn, part).await;
            }
            assert!(read_exactly(&mut conn, *size, Class::Small).await == sent, "{size} bytes");
        }
        let end = receive(&mut conn, Class::Small).await.unwrap();
        assert!(end.is_empty(), "the end is no accident");
        log.borrow_mut().push("client done".to_owned());
    });
    assert_eq!(net.run(u64::MAX), 0, "somebody waits for ever");
    assert_eq!(*told.borrow(), ["a.test", "client done", "Ok(0)"], "seed {seed}");
}

#[test]
fn data_arrives_as_it_was_sent() {
    exchange(1, Conditions::PERFECT, &[&rustls::version::TLS13]);
    exchange(1, Conditions::PERFECT, &[&rustls::version::TLS12]);
}

#[test]
fn however_it_is_cut_on_the_way() {
    for seed in 0..30 {
        exchange(seed, ROUGH, &[&rustls::version::TLS13]);
        exchange(seed, ROUGH, &[&rustls::version::TLS12]);
    }
}

/// What the server told of a client that sends `bytes` and then closes.
fn greeted_with(bytes: Vec<u8>) -> Vec<String> {
    let net = SimNet::new(7, Conditions::PERFECT);
    let (server, _) = configs(&[&rustls::version::TLS13]);
    let told = Told::default();
    listen(&net, &server, &[], &told);
    let dialer = net.clone();
    net.spawn(async move {
        let mut conn = dialer.connect(GATEWAY).await.unwrap();
        conn.tx.start(Buf::copy_of(&bytes));
        let _ = poll_fn(|cx| conn.tx.poll(cx)).await;
    });
    net.run(u64::MAX);
    Rc::unwrap_or_clone(told).into_inner()
}

#[test]
fn what_is_no_handshake_is_refused() {
    let endless = [&[22, 3, 1, 0x40, 0][..], &[1, 0xff, 0xff, 0xff]].concat();
    let cases = [vec![22; 100], vec![22, 3, 1, 0, 0], endless, vec![22, 3, 1, 0xff, 0xff, 1]];
    for bytes in cases {
        let told = greeted_with(bytes.clone());
        assert_eq!(told.len(), 1, "{bytes:?}: {told:?}");
        assert_ne!(told[0], "a.test");
    }
}

#[test]
fn a_name_without_a_certificate_is_told_so() {
    let net = SimNet::new(3, Conditions::PERFECT);
    let (server, client) = configs(&[&rustls::version::TLS13]);
    let told = Told::default();
    listen(&net, &server, &[], &told);
    let (dialer, log) = (Stack(net.clone()), Rc::clone(&told));
    net.spawn(async move {
        let conn = dialer.connect(GATEWAY).await.unwrap();
        let Err(error) = Stack::<SimNet>::secure_upstream(conn, client, "b.test").await else {
            panic!("there is no certificate for b.test");
        };
        log.borrow_mut().push(error.to_string());
    });
    net.run(u64::MAX);
    let told = told.borrow();
    assert_eq!(told[0], "no certificate for Some(\"b.test\")");
    assert!(told[1].contains("UnrecognisedName"), "{told:?}");
}

#[test]
fn a_cut_connection_is_no_end() {
    let net = SimNet::new(3, Conditions::PERFECT);
    let (server, client) = configs(&[&rustls::version::TLS13]);
    let told = Told::default();
    listen(&net, &server, &[10], &told);
    let dialer = Stack(net.clone());
    net.spawn(async move {
        let conn = dialer.connect(GATEWAY).await.unwrap();
        let mut conn = Stack::<SimNet>::secure_upstream(conn, client, "a.test").await.unwrap();
        send(&mut conn, b"0123456789").await;
        read_exactly(&mut conn, 10, Class::Small).await;
        conn.tx.reset();
    });
    net.run(u64::MAX);
    assert!(told.borrow()[1].starts_with("Err"), "{told:?}");
}
