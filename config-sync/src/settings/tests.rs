use osmia_core::settings::{ConfigProvider, Seed};

use super::*;

mod admin;
mod deployment;
mod dns;
mod listen;
mod tls;

fn env(name: &str) -> Option<String> {
    (name == "TEST_PORT").then(|| "9999".to_owned())
}

fn read(text: &str) -> Result<Loaded, SettingsError> {
    load_text(text, Some(Path::new("dir/config.yaml")), &Overrides::default(), &env)
}

fn settings_of(text: &str) -> Settings {
    read(text).unwrap().settings
}

fn error(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn addresses(text: &str) -> Vec<(String, bool)> {
    let listeners = settings_of(text).listeners;
    listeners.into_iter().filter(|l| !l.tls).map(|l| (l.addr.to_string(), l.optional)).collect()
}

/// `addresses`, for comparison.
fn expected(all: &[(&str, bool)]) -> Vec<(String, bool)> {
    all.iter().map(|(addr, optional)| ((*addr).to_owned(), *optional)).collect()
}

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf").join(name)
}

#[test]
fn the_commented_file_means_the_defaults() {
    let shipped = load_with(Some(&conf("config.yaml")), &Overrides::default(), &|_| None).unwrap();
    let builtin = load_with(None, &Overrides::default(), &|_| None).unwrap();
    let ConfigProvider::Embedded { seed: Seed::File(seed) } = &shipped.settings.provider else {
        panic!("{:?}", shipped.settings.provider)
    };
    assert!(seed.is_file(), "{}", seed.display());
    assert_eq!(builtin.settings.provider, ConfigProvider::demo());
    let provider = shipped.settings.provider.clone();
    assert_eq!(shipped.settings, Settings { provider, ..builtin.settings });
    assert!(shipped.warnings.is_empty() && shipped.unused.is_empty());
}

#[test]
fn the_defaults() {
    let settings = settings_of("");
    assert_eq!(addresses(""), expected(&[("0.0.0.0:9080", false), ("[::]:9080", true)]));
    assert_eq!(settings.workers, Workers { count: None, cores: None, pin: true });
    assert_eq!(settings.limits, HttpLimits::default());
    assert_eq!(settings.downstream.send, Duration::from_secs(10));
    assert_eq!(settings.shutdown_timeout, Duration::from_mins(4));
    assert_eq!(settings.provider, ConfigProvider::Embedded { seed: Seed::Empty });
    assert_eq!((settings.data_dir, settings.history_keep), (PathBuf::from("data"), 10_000));
    let log = settings.access_log.unwrap();
    assert_eq!(log.path, Path::new("logs/access.log"));
    assert!(log.format.starts_with("$remote_addr - $remote_user [$time_local] $http_host \"$req"));
    assert!(log.format.ends_with("$upstream_uri\" \"$apisix_request_id\""));
    assert!(!log.format.contains("  "));
}

#[test]
fn null_and_empty_maps_mean_the_defaults() {
    assert_eq!(settings_of("apisix:\nnginx_config: {http: }\n"), settings_of(""));
    assert_eq!(settings_of("# nothing\n"), settings_of(""));
}

#[test]
fn node_listen_in_all_forms() {
    let one = [("0.0.0.0:80", false), ("[::]:80", true)];
    assert_eq!(addresses("apisix: {node_listen: 80}"), expected(&one));
    assert_eq!(addresses("apisix: {node_listen: [80, 80]}"), expected(&one));
    assert_eq!(addresses("apisix: {node_listen: '80'}"), expected(&one));
    assert_eq!(addresses("apisix: {node_listen: [{port: 80}]}"), expected(&one));
    let text = "apisix: {node_listen: 80, enable_ipv6: false}";
    assert_eq!(addresses(text), expected(&one[..1]));
    let text = "apisix: {node_listen: [{ip: 127.0.0.2}, {ip: '[::1]', port: 81}, {ip: '::2'}]}";
    let three = [("127.0.0.2:9080", false), ("[::1]:81", false), ("[::2]:9080", false)];
    assert_eq!(addresses(text), expected(&three));
    let text = "apisix: {node_listen: [{port: 80, access_log: false}, 81], enable_ipv6: false}";
    let logged: Vec<bool> = settings_of(text).listeners.iter().map(|l| l.access_log).collect();
    assert_eq!(logged, [false, true, true]);
}

#[test]
fn type_errors_name_file_path_and_value() {
    let cases = [
        (
            "apisix: {node_listen: [{port: x}]}",
            "apisix.node_listen[0].port: expected an integer 1-65535, found string \"x\"",
        ),
        (
            "apisix: {node_listen: 0}",
            "apisix.node_listen: expected an integer 1-65535, found number 0",
        ),
        (
            "apisix: {node_listen: [9080, 65536]}",
            "apisix.node_listen[1]: expected an integer 1-65535, found number 65536",
        ),
        (
            "apisix: {node_listen: []}",
            "apisix.node_listen: expected a port, or a list with at least one port or {ip, port}, \
             found a list",
        ),
        (
            "apisix: {node_listen: [{ip: a.b}]}",
            "apisix.node_listen[0].ip: expected an IP address, found string \"a.b\"",
        ),
        (
            "apisix: {node_listen: [{port: 1, enable_http2: true}]}",
            "apisix.node_listen[0].enable_http2: is no longer a setting of one port, set \
             apisix.enable_http2 instead",
        ),
        ("apisix: 1", "apisix: expected a map, found number 1"),
        ("apisix: {enable_ipv6: 1}", "apisix.enable_ipv6: expected true or false, found number 1"),
        (
            "nginx_config: {worker_processes: many}",
            "nginx_config.worker_processes: expected auto or an integer 1-1024, found string \
             \"many\"",
        ),
        (
            "nginx_config: {http: {send_timeout: 5 parsecs}}",
            "nginx_config.http.send_timeout: expected a time such as 60s, 500ms or 1m, found \
             string \"5 parsecs\"",
        ),
        (
            "nginx_config: {http: {client_max_body_size: -1}}",
            "nginx_config.http.client_max_body_size: expected a size such as 16384, 16k or 1m, \
             found number -1",
        ),
        (
            "nginx_config: {error_log_level: loud}",
            "nginx_config.error_log_level: expected one of debug, info, notice, warn, error, crit, \
             alert, emerg, found string \"loud\"",
        ),
        (
            "nginx_config: {http: {access_log: 'syslog:server=h'}}",
            "nginx_config.http.access_log: logging to syslog is not supported yet by this version",
        ),
        (
            "osmia: {driver: kqueue}",
            "osmia.driver: expected one of auto, io_uring, epoll, found string \"kqueue\"",
        ),
        (
            "osmia: {limits: {head_bytes: 64k}}",
            "osmia.limits.head_bytes: expected a size of 1-65535 bytes, found string \"64k\"",
        ),
        (
            "osmia: {limits: {header_count: 257}}",
            "osmia.limits.header_count: expected an integer 1-256, found number 257",
        ),
        (
            "osmia: {limits: {head_bytes: 4k}}",
            "osmia.limits.request_line_bytes: must not be larger than head_bytes (4096)",
        ),
        ("osmia: {cores: '0-3,2'}", "osmia.cores: core 2 is named twice"),
    ];
    for (text, message) in cases {
        assert_eq!(error(text), format!("dir/config.yaml: {message}"), "{text}");
    }
}

#[test]
fn files_that_are_not_configurations() {
    assert!(error("a: [").starts_with("dir/config.yaml: not valid YAML: "));
    assert!(error("- a").starts_with("dir/config.yaml: not valid YAML: expected keys such as"));
    let missing = load(Some(Path::new("no/such/config.yaml")), &Overrides::default());
    assert!(missing.unwrap_err().to_string().starts_with("cannot read no/such/config.yaml: "));
}

#[test]
fn variables_are_replaced_and_missing_ones_named() {
    let text = "apisix: {node_listen: '${{TEST_PORT}}', enable_ipv6: '${{NO:=false}}'}";
    assert_eq!(addresses(text), expected(&[("0.0.0.0:9999", false)]));
    assert_eq!(
        error("nginx_config: {http: {access_log: '${{NO}}'}}"),
        "dir/config.yaml: nginx_config.http.access_log: environment variable NO is not set: set it, \
         or give a default as ${{NO:=default}}"
    );
}

#[test]
fn workers_from_every_place() {
    assert_eq!(settings_of("nginx_config: {worker_processes: 3}").workers.count, Some(3));
    assert_eq!(settings_of("nginx_config: {worker_processes: '3'}").workers.count, Some(3));
    assert_eq!(settings_of("nginx_config: {worker_processes: auto}").workers.count, None);
    assert_eq!(settings_of("apisix: {enable_dev_mode: true}").workers.count, Some(1));

    let env = |name: &str| (name == ENV_WORKERS).then(|| "5".to_owned());
    let with = |overrides: &Overrides| {
        let text = "nginx_config: {worker_processes: 3}";
        load_text(text, Some(Path::new("c")), overrides, &env).unwrap().settings.workers.count
    };
    assert_eq!(with(&Overrides::default()), Some(5));
    let auto = Overrides { workers: Some(None), ..Overrides::default() };
    assert_eq!(with(&auto), None);
    let seven = Overrides { workers: Some(Some(7)), ..Overrides::default() };
    assert_eq!(with(&seven), Some(7));

    let error = load_text("", Some(Path::new("c")), &Overrides::default(), &|name| {
        (name == ENV_WORKERS).then(|| "x".to_owned())
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "environment variable APISIX_WORKER_PROCESSES: expected an integer 1-1024, found \"x\""
    );
}

#[test]
fn the_command_line_wins() {
    let overrides = Overrides { workers: None, cores: Some(vec![4]), driver: Some(Driver::Epoll) };
    let text = "osmia: {cores: 0-1, driver: io_uring, pin: false}";
    let settings = load_text(text, Some(Path::new("c")), &overrides, &env).unwrap().settings;
    assert_eq!((settings.workers.cores, settings.driver), (Some(vec![4]), Driver::Epoll));
    assert!(!settings.workers.pin);
}

#[test]
fn cores_in_all_forms() {
    assert_eq!(parse_cores("0-3,6").unwrap(), [0, 1, 2, 3, 6]);
    assert_eq!(parse_cores(" 5 , 1 - 2 ").unwrap(), [5, 1, 2]);
    assert_eq!(parse_cores("").unwrap_err(), CoresError::Empty);
    assert_eq!(parse_cores("1,0-1").unwrap_err(), CoresError::Twice(1));
    for bad in ["a", "3-1", "1,", "-1", "0-99999999999999999999", "1024", "1-2-3"] {
        assert!(matches!(parse_cores(bad), Err(CoresError::Malformed(_))), "{bad}");
    }
    assert_eq!(settings_of("osmia: {cores: [2, 0]}").workers.cores, Some(vec![2, 0]));
    assert_eq!(settings_of("osmia: {cores: 2}").workers.cores, Some(vec![2]));
}

#[test]
fn access_log_in_all_forms() {
    assert_eq!(settings_of("nginx_config: {http: {enable_access_log: false}}").access_log, None);
    assert_eq!(settings_of("nginx_config: {http: {access_log: off}}").access_log, None);
    assert_eq!(settings_of("nginx_config: {http: {access_log: 'off'}}").access_log, None);
    let text = "
nginx_config:
  http:
    access_log: /var/log/a.log
    access_log_buffer: 4k
    access_log_format_escape: json
    access_log_format: |
      {\"a\": \\\"$host\\\", 'b\\\\': \\x \\t}
osmia: {access_log: {max_size: 1g, interval: 1h, max_kept: 2, queue: 3}}
";
    let log = settings_of(text).access_log.unwrap();
    assert_eq!(log.format, "{\"a\": \"$host\", 'b\\': \\x \t}");
    assert_eq!((log.buffer_bytes, log.escape), (4096, Escape::Json));
    assert_eq!((log.rotate_bytes, log.max_kept, log.queue), (1 << 30, 2, 3));
    assert_eq!(log.rotate_interval, Duration::from_hours(1));
}

#[test]
fn error_log_in_all_forms() {
    assert_eq!(settings_of("nginx_config: {error_log: stderr}").error_log, None);
    let settings = settings_of("nginx_config: {error_log: logs/e.log, error_log_level: crit}");
    assert_eq!(settings.error_log, Some(PathBuf::from("logs/e.log")));
    assert_eq!(settings.log_level, "error");
}

#[test]
fn warnings_name_the_file() {
    let loaded = read("apisix: {nodelisten: 1, lru: {count: 1}}").unwrap();
    assert_eq!(loaded.warnings, ["dir/config.yaml: apisix.nodelisten: unknown key, ignored"]);
    assert_eq!(loaded.unused, ["apisix.lru"]);
}
