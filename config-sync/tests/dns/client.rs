//! One question at a time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use osmia_config_sync::dns::{ADDRESSES_MAX, Client, Counters, Miss, Options};

use osmia_tests::dns::{Mode, Server, a, alias};

/// Nothing comes from this machine's files.
fn options(servers: &[SocketAddr]) -> Options {
    Options {
        servers: Some(servers.to_vec()),
        resolv_conf: "/dev/null".into(),
        hosts: None,
        search: true,
        ipv6: true,
        // Longer than the tests need where an answer comes.
        timeout: Duration::from_secs(20),
        valid: None,
    }
}

fn client(options: &Options) -> Client {
    Client::new(options, Arc::default())
}

async fn found(client: &Client, host: &str) -> Vec<String> {
    let found = client.addresses(host).await.unwrap();
    found.value.iter().map(ToString::to_string).collect()
}

async fn missed(client: &Client, host: &str) -> Miss {
    client.addresses(host).await.unwrap_err()
}

fn is_failure(miss: &Miss) -> bool {
    matches!(miss, Miss::Failed { .. })
}

#[tokio::test]
async fn ipv4_comes_before_ipv6_and_order_does_not_matter() {
    let server = Server::start(vec![
        a("both.test.", 60, "10.0.0.2"),
        a("both.test.", 60, "::1"),
        a("both.test.", 30, "10.0.0.1"),
        a("six.test.", 60, "::2"),
        a("six.test.", 60, "::1"),
    ]);
    let mut options = options(&[server.addr]);
    let client = client(&options);
    assert_eq!(found(&client, "both.test").await, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(client.addresses("both.test").await.unwrap().ttl, Duration::from_secs(30));
    assert_eq!(server.asked("both.test.", RecordType::AAAA), 0);
    assert_eq!(found(&client, "six.test").await, ["::1", "::2"]);
    options.ipv6 = false;
    assert!(!is_failure(&missed(&crate::client::client(&options), "six.test").await));
}

#[tokio::test]
async fn answers_hold_as_long_as_configured_but_not_for_ever() {
    let server = Server::start(vec![a("long.test.", 1_000_000, "10.0.0.1")]);
    let mut options = options(&[server.addr]);
    let ttl = async |options: &Options| {
        client(options).addresses("long.test").await.unwrap().ttl.as_secs()
    };
    assert_eq!(ttl(&options).await, 3600);
    options.valid = Some(Duration::from_secs(7));
    assert_eq!(ttl(&options).await, 7);
}

#[tokio::test]
async fn nothing_is_kept_between_questions() {
    let server = Server::start(vec![a("a.test.", 3600, "10.0.0.1")]);
    let client = client(&options(&[server.addr]));
    assert_eq!(found(&client, "a.test").await, ["10.0.0.1"]);
    server.set(vec![a("a.test.", 3600, "10.0.0.2")]);
    assert_eq!(found(&client, "a.test").await, ["10.0.0.2"]);
}

#[tokio::test]
async fn aliases_are_followed_and_loops_are_not() {
    let server = Server::start(vec![
        alias("www.test.", 60, "web.test."),
        a("web.test.", 5, "10.0.0.1"),
        alias("loop.test.", 60, "pool.test."),
        alias("pool.test.", 60, "loop.test."),
        alias("self.test.", 60, "self.test."),
        alias("dangling.test.", 60, "nowhere.test."),
    ]);
    let client = client(&options(&[server.addr]));
    assert_eq!(found(&client, "www.test").await, ["10.0.0.1"]);
    assert_eq!(client.addresses("www.test").await.unwrap().ttl, Duration::from_secs(5));
    for host in ["loop.test", "self.test", "dangling.test"] {
        missed(&client, host).await;
    }
}

#[tokio::test]
async fn an_answer_with_too_many_addresses_comes_by_tcp_and_is_cut() {
    let ip = |n: u8| format!("10.0.0.{n}");
    let records = (0..100).rev().map(|n| a("many.test.", 60, &ip(n))).collect();
    let server = Server::start(records);
    let client = client(&options(&[server.addr]));
    let found = client.addresses("many.test").await.unwrap();
    let expected: Vec<String> = (0..ADDRESSES_MAX as u8).map(ip).collect();
    assert_eq!(found.value.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    assert_eq!(found.left_out, 100 - ADDRESSES_MAX);
    assert!(server.by_tcp() > 0);
}

#[tokio::test]
async fn negative_answers_say_how_long_they_hold() {
    let server = Server::start(vec![]);
    let client = client(&options(&[server.addr]));
    assert!(matches!(missed(&client, "no.test").await, Miss::Absent { ttl: None, .. }));
    server.zone().minimum = Some(17);
    let ttl = Some(Duration::from_secs(17));
    let miss = missed(&client, "no.test").await;
    assert!(matches!(&miss, Miss::Absent { ttl: found, .. } if *found == ttl), "{miss:?}");
    // A name that does not exist has no IPv6 address either.
    assert_eq!(server.asked("no.test.", RecordType::AAAA), 0);
}

#[tokio::test]
async fn servers_that_fail_lie_or_are_not_there_are_failures() {
    let server = Server::start(vec![a("a.test.", 60, "10.0.0.1")]);
    let counters = Arc::new(Counters::default());
    let mut short = options(&[server.addr]);
    short.timeout = Duration::from_millis(500);
    let client = Client::new(&short, Arc::clone(&counters));
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        server.mode(Mode::Fail(code));
        let miss = missed(&client, "a.test").await;
        assert!(is_failure(&miss) && miss.reason().contains("a.test"), "{miss:?}");
    }
    for mode in [Mode::Silent, Mode::Garble] {
        server.mode(mode);
        assert!(is_failure(&missed(&client, "a.test").await), "{mode:?}");
    }
    server.mode(Mode::Lie);
    let miss = missed(&client, "a.test").await;
    assert!(!miss.reason().contains("10.6.6.6"), "{miss:?}");
    assert!(counters.questions() >= 5);
    // A port that nobody listens on.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    short.servers = Some(vec![closed]);
    let dead = crate::client::client(&short);
    assert!(is_failure(&missed(&dead, "a.test").await));
}

#[tokio::test]
async fn a_dead_server_does_not_hide_another() {
    let (dead, alive) = (Server::start(vec![]), Server::start(vec![a("a.test.", 1, "10.0.0.1")]));
    dead.mode(Mode::Silent);
    let client = client(&options(&[dead.addr, alive.addr]));
    assert_eq!(found(&client, "a.test").await, ["10.0.0.1"]);
}

fn write(directory: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let file = directory.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn search_domains_are_tried_in_the_order_that_ndots_says() {
    let server = Server::start(vec![
        a("db.two.test.", 60, "10.0.0.2"),
        a("a.b.test.", 60, "10.0.0.3"),
        a("a.b.one.test.", 60, "10.0.0.4"),
        a("db.", 60, "10.0.0.5"),
    ]);
    let directory = tempfile::tempdir().unwrap();
    let conf = "search one.test two.test\noptions ndots:2\n";
    let mut options = options(&[server.addr]);
    options.resolv_conf = write(directory.path(), "resolv.conf", conf);
    let searching = client(&options);
    assert_eq!(found(&searching, "db").await, ["10.0.0.2"]);
    assert!(server.asked("db.one.test.", RecordType::A) > 0);
    assert_eq!(server.asked("db.", RecordType::A), 0);
    assert_eq!(found(&searching, "a.b").await, ["10.0.0.4"]);
    assert_eq!(found(&searching, "a.b.test").await, ["10.0.0.3"]);
    assert_eq!(found(&searching, "db.").await, ["10.0.0.5"]);
    options.search = false;
    assert_eq!(found(&client(&options), "db").await, ["10.0.0.5"]);
}

#[tokio::test]
async fn the_hosts_file_goes_first() {
    let server = Server::start(vec![a("other.test.", 60, "10.0.0.1")]);
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&[server.addr]);
    options.resolv_conf = write(directory.path(), "resolv.conf", "search one.test\n");
    let hosts = "10.9.9.9 db.test db # ours\n::9 db\nnonsense\n10.9.9.8 DB\n";
    options.hosts = Some(write(directory.path(), "hosts", hosts));
    let client = client(&options);
    assert_eq!(found(&client, "db").await, ["10.9.9.8", "10.9.9.9"]);
    assert_eq!(found(&client, "db.test").await, ["10.9.9.9"]);
    assert_eq!(found(&client, "other.test").await, ["10.0.0.1"]);
    assert_eq!(server.asked("db.one.test.", RecordType::A), 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_the_answer_to_all() {
    let mut options = options(&[]);
    options.servers = None;
    options.resolv_conf = "/nonexistent/resolv.conf".into();
    let miss = missed(&client(&options), "a.test").await;
    assert!(is_failure(&miss) && miss.reason().contains("/nonexistent/resolv.conf"), "{miss:?}");
    for host in ["", "..", "a..b", &"x".repeat(64), &"x.".repeat(200)] {
        missed(&client(&options), host).await;
    }
}

#[tokio::test]
async fn this_machine_knows_localhost() {
    let mut options = options(&[]);
    options.servers = None;
    options.resolv_conf = "/etc/resolv.conf".into();
    options.hosts = Some("/etc/hosts".into());
    let found = client(&options).addresses("localhost").await.unwrap();
    assert!(found.value.iter().all(std::net::IpAddr::is_loopback) && !found.value.is_empty());
}
