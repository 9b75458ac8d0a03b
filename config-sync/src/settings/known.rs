//! Which keys there are: Osmia's, those of APISIX, and those that do not exist.

use std::collections::BTreeSet;

use serde_json::Value;

/// Keys that are read. `[]` stands for the items of a list.
const USED: &[&str] = &[
    "apisix.node_listen",
    "apisix.node_listen[].ip",
    "apisix.node_listen[].port",
    "apisix.node_listen[].access_log",
    "apisix.node_listen[].unix",
    "apisix.node_listen[].proxy_protocol",
    "apisix.ssl.enable",
    "apisix.ssl.listen",
    "apisix.ssl.listen[].ip",
    "apisix.ssl.listen[].port",
    "apisix.ssl.listen[].enable_http3",
    "apisix.ssl.listen[].access_log",
    "apisix.ssl.listen[].unix",
    "apisix.ssl.listen[].proxy_protocol",
    "apisix.proxy_protocol.listen_http_port",
    "apisix.proxy_protocol.listen_https_port",
    "apisix.enable_http2",
    "apisix.trusted_addresses",
    "apisix.enable_ipv6",
    "apisix.dns_resolver",
    "apisix.dns_resolver_valid",
    "apisix.resolver_timeout",
    "apisix.enable_resolv_search_opt",
    "apisix.enable_admin",
    "apisix.enable_control",
    "apisix.control.ip",
    "apisix.control.port",
    "apisix.status.ip",
    "apisix.status.port",
    "apisix.proxy_mode",
    "apisix.data_encryption.enable_encrypt_fields",
    "apisix.data_encryption.keyring",
    "apisix.disable_upstream_healthcheck",
    "apisix.enable_http2",
    "apisix.ssl.fallback_sni",
    "apisix.ssl.ssl_ciphers",
    "apisix.ssl.ssl_protocols",
    "apisix.ssl.ssl_session_tickets",
    "apisix.ssl.ssl_trusted_certificate",
    "apisix.enable_dev_mode",
    "apisix.enable_server_tokens",
    "apisix.show_upstream_status_in_response_header",
    "nginx_config.error_log",
    "nginx_config.error_log_level",
    "nginx_config.worker_processes",
    "nginx_config.worker_shutdown_timeout",
    "nginx_config.http.enable_access_log",
    "nginx_config.http.access_log",
    "nginx_config.http.access_log_buffer",
    "nginx_config.http.access_log_format",
    "nginx_config.http.access_log_format_escape",
    "nginx_config.http.keepalive_timeout",
    "nginx_config.http.client_header_timeout",
    "nginx_config.http.client_body_timeout",
    "nginx_config.http.client_max_body_size",
    "nginx_config.http.send_timeout",
    "deployment.role",
    "deployment.role_traditional.config_provider",
    "deployment.role_data_plane.config_provider",
    "deployment.role_control_plane.config_provider",
    "deployment.admin.admin_key",
    "deployment.admin.admin_key[].name",
    "deployment.admin.admin_key[].key",
    "deployment.admin.admin_key[].role",
    "deployment.admin.admin_key_required",
    "deployment.admin.allow_admin",
    "deployment.admin.enable_admin_cors",
    "deployment.admin.admin_listen.ip",
    "deployment.admin.admin_listen.port",
    "deployment.admin.https_admin",
    "deployment.admin.admin_api_mtls.admin_ssl_cert",
    "deployment.admin.admin_api_mtls.admin_ssl_cert_key",
    "deployment.admin.admin_api_mtls.admin_ssl_ca_cert",
    "deployment.admin.admin_api_version",
    "deployment.etcd.host",
    "apisix.delete_uri_tail_slash",
    "apisix.match_uri_encoded_slash",
    "apisix.max_post_args_readable_size",
    "graphql.max_size",
    "apisix.normalize_uri_like_servlet",
    "apisix.router.http",
    "deployment.etcd.prefix",
    "deployment.etcd.user",
    "deployment.etcd.password",
    "deployment.etcd.timeout",
    "deployment.etcd.tls.cert",
    "deployment.etcd.tls.key",
    "deployment.etcd.tls.verify",
    "deployment.etcd.tls.sni",
    "discovery.dns.servers",
    "discovery.dns.resolv_conf",
    "discovery.dns.order",
    "plugins",
    "osmia.data_dir",
    "osmia.history.keep",
    "osmia.ssl_session_cache",
    "osmia.embedded.seed",
    "osmia.etcd.accept_empty",
    "osmia.unknown_plugins",
    "osmia.standalone_file",
    "osmia.cores",
    "osmia.pin",
    "osmia.driver",
    "osmia.proxy_protocol.trusted",
    "osmia.keepalive_requests",
    "osmia.limits.request_line_bytes",
    "osmia.limits.head_bytes",
    "osmia.limits.header_count",
    "osmia.limits.chunk_line_bytes",
    "osmia.limits.trailer_bytes",
    "osmia.access_log.max_size",
    "osmia.access_log.interval",
    "osmia.access_log.max_kept",
    "osmia.access_log.queue",
];

/// Keys of APISIX (`conf/config.yaml.example`, `apisix/cli/config.lua`) that this version does not
/// use, with everything below them.
const UNUSED: &[&str] = &[
    "apisix.disable_sync_configuration_during_start",
    "apisix.enable_reuseport",
    "apisix.extra_lua_cpath",
    "apisix.extra_lua_path",
    "apisix.lru",
    "apisix.lua_module_hook",
    "apisix.proxy_cache",
    "apisix.proxy_protocol.enable_tcp_pp",
    "apisix.proxy_protocol.enable_tcp_pp_to_upstream",
    "apisix.router.ssl",
    "apisix.stream_proxy",
    "apisix.tracing",
    "apisix.worker_startup_time_threshold",
    "nginx_config.enable_cpu_affinity",
    "nginx_config.envs",
    "nginx_config.event",
    "nginx_config.http.charset",
    "nginx_config.http.custom_lua_shared_dict",
    "nginx_config.http.lua_shared_dict",
    "nginx_config.http.proxy_ssl_server_name",
    "nginx_config.http.real_ip_from",
    "nginx_config.http.real_ip_header",
    "nginx_config.http.real_ip_recursive",
    "nginx_config.http.underscores_in_headers",
    "nginx_config.http.upstream.keepalive",
    "nginx_config.http.upstream.keepalive_requests",
    "nginx_config.http.upstream.keepalive_timeout",
    "nginx_config.http.variables_hash_max_size",
    "nginx_config.http_admin_configuration_snippet",
    "nginx_config.http_configuration_snippet",
    "nginx_config.http_end_configuration_snippet",
    "nginx_config.http_server_configuration_snippet",
    "nginx_config.http_server_location_configuration_snippet",
    "nginx_config.main_configuration_snippet",
    "nginx_config.max_pending_timers",
    "nginx_config.max_running_timers",
    "nginx_config.meta",
    "nginx_config.stream",
    "nginx_config.stream_configuration_snippet",
    "nginx_config.user",
    "nginx_config.worker_rlimit_core",
    "nginx_config.worker_rlimit_nofile",
    "deployment.admin.enable_admin_ui",
    "deployment.etcd.health_check_timeout",
    "deployment.etcd.resync_delay",
    "deployment.etcd.startup_retry",
    "deployment.etcd.watch_timeout",
    "discovery.consul",
    "discovery.consul_kv",
    "discovery.eureka",
    "discovery.kubernetes",
    "discovery.nacos",
    "discovery.tars",
    "ext-plugin",
    "plugin_attr",
    "stream_plugins",
    "wasm",
    "xrpc",
];

/// Keys that change how requests are treated and are not used, or not with every value, with the
/// values that ask for what Osmia does anyway. Any other value is worth a warning.
const ACTING: &[(&str, &[&str])] = &[
    ("apisix.proxy_mode", &["http"]),
    ("apisix.proxy_protocol.enable_tcp_pp", &["false"]),
    ("apisix.proxy_protocol.enable_tcp_pp_to_upstream", &["false"]),
    ("apisix.stream_proxy", &[]),
    ("nginx_config.http.real_ip_from", &["[\"127.0.0.1\",\"unix:\"]"]),
    ("nginx_config.http.real_ip_header", &["X-Real-IP", "proxy_protocol"]),
    ("nginx_config.http.real_ip_recursive", &["off", "false"]),
    ("nginx_config.http.underscores_in_headers", &["on", "true"]),
    ("nginx_config.http.upstream.keepalive", &["320"]),
    ("nginx_config.http.upstream.keepalive_requests", &["1000"]),
    ("nginx_config.http.upstream.keepalive_timeout", &["60s", "60", "1m"]),
    ("nginx_config.http_configuration_snippet", &[""]),
    ("nginx_config.http_end_configuration_snippet", &[""]),
    ("nginx_config.http_server_configuration_snippet", &[""]),
    ("nginx_config.http_server_location_configuration_snippet", &[""]),
    ("nginx_config.main_configuration_snippet", &[""]),
    ("nginx_config.stream_configuration_snippet", &[""]),
    ("nginx_config.user", &[]),
];

/// What a document's keys are worth saying.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) warnings: Vec<String>,
    /// Keys of APISIX that are set and not used.
    pub(super) unused: Vec<String>,
}

/// Looks at every key of the document.
pub(super) fn check(document: &Value) -> Checked {
    let used: BTreeSet<&str> = USED.iter().copied().collect();
    let unused: BTreeSet<&str> = UNUSED.iter().copied().collect();
    let mut walk = Walk { used, unused, checked: Checked::default() };
    walk.map(document, "", "");
    for (key, neutral) in ACTING {
        let value = key.split('.').try_fold(document, |value, name| value.get(name));
        if let Some(value) = value.filter(|value| !is_neutral(value, neutral)) {
            let found = text(value);
            let line = format!("{key}: \"{found}\" is not supported yet by this version, ignored");
            walk.checked.warnings.push(line);
        }
    }
    walk.checked
}

/// A value as text: strings as they are, the rest as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.trim_end().to_owned())
}

fn is_neutral(value: &Value, neutral: &[&str]) -> bool {
    let text = text(value);
    let only_comments = text.lines().all(|line| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with('#')
    });
    value.is_null() || neutral.contains(&text.as_str()) || (neutral == [""] && only_comments)
}

struct Walk<'k> {
    used: BTreeSet<&'k str>,
    unused: BTreeSet<&'k str>,
    checked: Checked,
}

impl Walk<'_> {
    /// Looks at the keys of a map. `rule` is its path in the tables above, `shown` the one in
    /// messages.
    fn map(&mut self, value: &Value, rule: &str, shown: &str) {
        let Value::Object(map) = value else { return };
        for (name, value) in map {
            let rule = join(rule, name);
            let shown = join(shown, name);
            if self.used.contains(rule.as_str()) {
                self.items(value, &rule, &shown);
            } else if self.unused.contains(rule.as_str()) {
                self.checked.unused.push(shown);
            } else if has_below(&self.used, &rule) || has_below(&self.unused, &rule) {
                self.map(value, &rule, &shown);
            } else {
                self.checked.warnings.push(format!("{shown}: unknown key, ignored"));
            }
        }
    }

    /// Looks at the maps in a list.
    fn items(&mut self, value: &Value, rule: &str, shown: &str) {
        let Value::Array(items) = value else { return };
        for (index, item) in items.iter().enumerate() {
            self.map(item, &format!("{rule}[]"), &format!("{shown}[{index}]"));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn has_below(table: &BTreeSet<&str>, path: &str) -> bool {
    let below = format!("{path}.");
    table.range(below.as_str()..).next().is_some_and(|key| key.starts_with(&below))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn warnings(document: &Value) -> Vec<String> {
        check(document).warnings
    }

    #[test]
    fn every_acting_key_is_one_of_apisix() {
        for (key, _) in ACTING {
            let listed = UNUSED.iter().chain(USED).any(|listed| {
                key.strip_prefix(listed)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            assert!(listed, "{key}");
        }
    }

    #[test]
    fn unknown_keys_are_named_with_their_path() {
        let document = json!({
            "apisix": {"node_listen": [9080, {"port": 1, "prot": 2}], "nodelisten": 1},
            "nginx_config": {"http": {"sendtimeout": 1}},
            "osmia": {"limits": {"head": 1}},
            "extra": {"a": 1},
        });
        assert_eq!(
            warnings(&document),
            [
                "apisix.node_listen[1].prot: unknown key, ignored",
                "apisix.nodelisten: unknown key, ignored",
                "extra: unknown key, ignored",
                "nginx_config.http.sendtimeout: unknown key, ignored",
                "osmia.limits.head: unknown key, ignored",
            ]
        );
    }

    #[test]
    fn keys_of_apisix_are_known_with_all_below() {
        let document = json!({
            "apisix": {"ssl": {"listen": [{"port": 9443}], "ssl_ciphers": "x"},
                       "enable_admin": true, "status": false, "lru": {"count": 1}},
            "plugin_attr": {"prometheus": {"any": {"thing": 1}}},
            "deployment": {"admin": {"admin_key": [{"name": "a"}], "enable_admin_ui": true}},
            "plugins": ["a"],
        });
        let checked = check(&document);
        assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
        let unused = ["apisix.lru", "deployment.admin.enable_admin_ui", "plugin_attr"];
        assert_eq!(checked.unused, unused);
    }

    #[test]
    fn acting_keys_warn_unless_they_ask_for_the_default() {
        let defaults = json!({
            "apisix": {"router": {"http": "radixtree_host_uri", "ssl": "radixtree_sni"},
                       "delete_uri_tail_slash": false, "trusted_addresses": null},
            "nginx_config": {"http": {"real_ip_from": ["127.0.0.1", "unix:"],
                "underscores_in_headers": true, "upstream": {"keepalive": 320}},
                "main_configuration_snippet": "  # a comment\n"},
        });
        assert!(warnings(&defaults).is_empty(), "{:?}", warnings(&defaults));
        let document = json!({
            "apisix": {"proxy_mode": "stream", "proxy_protocol": {"enable_tcp_pp": true}},
            "nginx_config": {"http": {"upstream": {"keepalive": 64}},
                "main_configuration_snippet": "daemon on;"},
        });
        let text = warnings(&document).join("\n");
        for part in [
            "apisix.proxy_mode: \"stream\" is not supported yet by this version, ignored",
            "apisix.proxy_protocol.enable_tcp_pp: \"true\" is not supported",
            "nginx_config.http.upstream.keepalive: \"64\" is not",
            "nginx_config.main_configuration_snippet: \"daemon on;\"",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
