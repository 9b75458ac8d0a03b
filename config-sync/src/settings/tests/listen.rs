//! Listeners: TLS, PROXY protocol, Unix domain sockets, and who is trusted.

use std::net::IpAddr;

use osmia_core::settings::ListenAddr;

use super::{Path, error, read, settings_of};

/// `address` with `+` and the first letters of what is on: TLS, HTTP/2, PROXY protocol.
fn listeners(text: &str) -> Vec<String> {
    let settings = settings_of(&format!("apisix: {text}"));
    let show = |l: osmia_core::settings::Listener| {
        let flags = [(l.tls, "t"), (l.http2, "h"), (l.proxy_protocol, "p")];
        let on: String = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        format!("{}+{on}", l.addr)
    };
    settings.listeners.into_iter().map(show).collect()
}

#[test]
fn tls_listens_on_9443_unless_it_is_off() {
    let text = "{enable_ipv6: false}";
    assert_eq!(listeners(text), ["0.0.0.0:9080+h", "0.0.0.0:9443+th"]);
    let both = ["0.0.0.0:9080+h", "[::]:9080+h", "0.0.0.0:9443+th", "[::]:9443+th"];
    assert_eq!(listeners("{}"), both);
    let text = "{enable_ipv6: false, enable_http2: false, ssl: {enable: false, listen: []}}";
    assert_eq!(listeners(text), ["0.0.0.0:9080+"]);
    let text = "{node_listen: [{ip: 127.0.0.1}], ssl: {listen: [{ip: 127.0.0.3, port: 9445, \
                enable_http3: false}, {ip: '::1'}, {unix: /run/tls.sock, proxy_protocol: true}]}}";
    let expected =
        ["127.0.0.1:9080+h", "127.0.0.3:9445+th", "[::1]:9443+th", "unix:/run/tls.sock+thp"];
    assert_eq!(listeners(text), expected);
}

#[test]
fn proxy_protocol_has_ports_of_its_own_or_is_part_of_an_entry() {
    let text = "{enable_ipv6: false, node_listen: [{port: 80, proxy_protocol: true}], \
                proxy_protocol: {listen_http_port: 9181, listen_https_port: 9182}}";
    let expected = ["0.0.0.0:80+hp", "0.0.0.0:9443+th", "0.0.0.0:9181+hp", "0.0.0.0:9182+thp"];
    assert_eq!(listeners(text), expected);
    let loaded = read(&format!("apisix: {text}")).unwrap();
    assert!(loaded.warnings.is_empty() && loaded.unused.is_empty(), "{loaded:?}");
}

#[test]
fn unix_sockets_are_paths() {
    let settings = settings_of("apisix: {node_listen: [{unix: /run/o.sock, access_log: false}]}");
    let first = &settings.listeners[0];
    assert_eq!(first.addr, ListenAddr::Unix(Path::new("/run/o.sock").to_owned()));
    assert!(!first.access_log && !first.optional && !first.tls);
}

#[test]
fn lists_of_trusted_peers() {
    let settings = settings_of("");
    assert!(settings.trusted_addresses.is_none() && settings.proxy_protocol_trusted.is_none());
    let settings = settings_of(
        "apisix: {trusted_addresses: [127.0.0.1, 172.18.0.0/16]}\nosmia: {proxy_protocol: \
         {trusted: ['::1']}}",
    );
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let trusted = settings.trusted_addresses.unwrap();
    assert!(trusted.contains(ip("172.18.9.9")) && !trusted.contains(ip("127.0.0.2")));
    let trusted = settings.proxy_protocol_trusted.unwrap();
    assert!(trusted.contains(ip("::1")) && !trusted.contains(ip("127.0.0.1")));
}

#[test]
fn what_cannot_be_listened_on() {
    let long = format!("{{node_listen: [{{unix: /{}}}]}}", "x".repeat(107));
    let cases = [
        (
            "{ssl: {listen: [{enable_http3: true}]}}",
            "ssl.listen[0].enable_http3: HTTP/3 is not supported yet by this version",
        ),
        (
            "{ssl: {listen: [{port: 9080}]}}",
            "ssl.listen[0]: 0.0.0.0:9080 is also listened on with another setting of TLS or PROXY \
             protocol, choose another port",
        ),
        (
            "{proxy_protocol: {listen_http_port: 9080}}",
            "proxy_protocol.listen_http_port: 0.0.0.0:9080 is also listened on with another",
        ),
        (
            "{proxy_protocol: {listen_http_port: 0}}",
            "proxy_protocol.listen_http_port: expected an integer 1-65535, found number 0",
        ),
        (
            "{node_listen: [{unix: o.sock}]}",
            "node_listen[0].unix: expected an absolute path of at most 107 bytes, found string",
        ),
        (long.as_str(), "node_listen[0].unix: expected an absolute path of at most 107 bytes"),
        (
            "{node_listen: [{unix: /o.sock, port: 80}]}",
            "node_listen[0].port: cannot be combined with unix, leave one of them out",
        ),
        (
            "{ssl: {listen: [{enable_http2: true}]}}",
            "ssl.listen[0].enable_http2: is no longer a setting of one port",
        ),
        ("{trusted_addresses: []}", "trusted_addresses: expected a list with at least one IP"),
        (
            "{trusted_addresses: [lan]}",
            "trusted_addresses[0]: expected an IP address or a network such as 10.0.0.0/8, found",
        ),
    ];
    for (text, message) in cases {
        let found = error(&format!("apisix: {text}"));
        assert!(found.starts_with(&format!("dir/config.yaml: apisix.{message}")), "{found}");
    }
}
