use osmia_core::settings::{DnsDiscovery, DnsRecords, DnsServers, DnsSettings};

use super::*;

fn listed(servers: &[&str]) -> DnsServers {
    DnsServers::Listed(servers.iter().map(|server| server.parse().unwrap()).collect())
}

#[test]
fn the_system_is_asked_unless_servers_are_named() {
    let mut expected = DnsSettings {
        servers: DnsServers::File("/etc/resolv.conf".into()),
        valid: None,
        timeout: Duration::from_secs(5),
        search: true,
        ipv6: true,
    };
    assert_eq!(settings_of("").dns, expected);
    let text = "apisix:\n  dns_resolver: [1.1.1.1, '127.0.0.1:8600', '::1', '[::1]', '[::2]:54']\n  \
                dns_resolver_valid: 30\n  resolver_timeout: 2\n  enable_resolv_search_opt: false\n  \
                enable_ipv6: false\n";
    expected = DnsSettings {
        servers: listed(&["1.1.1.1:53", "127.0.0.1:8600", "[::1]:53", "[::1]:53", "[::2]:54"]),
        valid: Some(Duration::from_secs(30)),
        timeout: Duration::from_secs(2),
        search: false,
        ipv6: false,
    };
    let loaded = read(text).unwrap();
    assert_eq!(loaded.settings.dns, expected);
    assert!(loaded.warnings.is_empty() && loaded.unused.is_empty(), "{loaded:?}");
}

#[test]
fn servers_with_a_zone_are_left_out() {
    let loaded = read("apisix: {dns_resolver: ['fe80::1%eth0', 1.1.1.1]}").unwrap();
    assert_eq!(loaded.settings.dns.servers, listed(&["1.1.1.1:53"]));
    assert!(loaded.warnings[0].contains("apisix.dns_resolver[0]: IPv6 addresses with a zone"));
}

#[test]
fn what_cannot_be_asked_is_named() {
    for (text, expected) in [
        ("{dns_resolver: []}", "apisix.dns_resolver: needs the address of a DNS server"),
        ("{dns_resolver: 1.1.1.1}", "apisix.dns_resolver: expected a list"),
        ("{dns_resolver: [dns.x]}", "apisix.dns_resolver[0]: expected an IP address or ip:port"),
        ("{dns_resolver: ['1.1.1.1:0']}", "apisix.dns_resolver[0]: expected an IP address"),
        ("{dns_resolver: [null]}", "apisix.dns_resolver[0]: expected an IP address"),
        ("{dns_resolver_valid: a}", "apisix.dns_resolver_valid: expected an integer 0-1000000000"),
        ("{resolver_timeout: 0}", "apisix.resolver_timeout: expected a time above zero"),
        ("{enable_resolv_search_opt: 1}", "apisix.enable_resolv_search_opt: expected true or"),
    ] {
        let error = error(&format!("apisix: {text}"));
        assert!(error.contains(expected), "{error}");
    }
}

fn discovery(text: &str) -> DnsDiscovery {
    settings_of(&format!("discovery: {{dns: {text}}}")).discovery.dns.unwrap()
}

#[test]
fn services_are_asked_for_where_discovery_says() {
    assert_eq!(settings_of("").discovery.types(), [""; 0]);
    let dns = discovery("{servers: ['127.0.0.1:8600']}");
    assert_eq!(dns.servers, listed(&["127.0.0.1:8600"]));
    use DnsRecords::{A, Aaaa, Cname, Last, Srv};
    assert_eq!(dns.order, [Last, Srv, A, Aaaa, Cname]);
    let dns = discovery("{resolv_conf: /x/resolv.conf, order: [A, SRV]}");
    assert_eq!(dns.servers, DnsServers::File("/x/resolv.conf".into()));
    assert_eq!(dns.order, [A, Srv]);
    let loaded = read("discovery: {dns: {servers: [::1]}, nacos: {host: []}}").unwrap();
    assert_eq!(loaded.settings.discovery.types(), ["dns"]);
    assert_eq!(loaded.unused, ["discovery.nacos"]);
}

#[test]
fn a_discovery_that_cannot_be_is_refused() {
    for (text, expected) in [
        ("{}", "discovery.dns: needs servers or resolv_conf"),
        ("{servers: [::1], resolv_conf: /x}", "discovery.dns: either servers or resolv_conf, not"),
        ("{servers: []}", "discovery.dns.servers: needs the address"),
        ("{servers: [x]}", "discovery.dns.servers[0]: expected an IP address or ip:port"),
        ("{servers: [::1], order: [B]}", "discovery.dns.order[0]: expected one of last, SRV, A"),
        ("{servers: [::1], order: [SRV, SRV]}", "discovery.dns.order[1]: expected each type once"),
        ("{servers: [::1], order: [last]}", "discovery.dns.order: names no type to ask for"),
        ("{servers: [::1], order: []}", "discovery.dns.order: names no type to ask for"),
    ] {
        let error = error(&format!("discovery: {{dns: {text}}}"));
        assert!(error.contains(expected), "{error}");
    }
}
