//! The command line and `config.yaml`: what is accepted, and what is said when it is not.

use std::net::TcpListener;

use osmia_tests::config::{document, run};
use osmia_tests::sandbox::Sandbox;
use osmia_tests::{Config, Upstream};
use serde_json::json;

/// A file in the layout of APISIX, with comments and all.
const YAML: &str = "\
# A comment.
apisix:
  node_listen:
    - ip: 127.0.0.1
      port: {port}
  enable_ipv6: false
  ssl:
    enable: false
nginx_config:
  error_log_level: info
  worker_processes: 1
  http:
    access_log: off
    client_header_timeout: 60s
deployment:
  role: data_plane
  role_data_plane:
    config_provider: yaml
osmia:
  pin: false
";

#[track_caller]
fn refused(config: &Config, parts: &[&str]) {
    let ended = config.check();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.complaint().starts_with("osmia: "), "{}", ended.stderr);
    for part in parts {
        assert!(ended.complaint().contains(part), "{part:?} in {}", ended.stderr);
    }
}

#[test]
fn version_and_help() {
    let version = run(&["version"]);
    assert_eq!(version.code, Some(0));
    assert_eq!(version.stdout.trim(), format!("osmia {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&["--version"]).stdout, version.stdout);
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["start", "check", "version"] {
        assert!(help.stdout.contains(word), "{}", help.stdout);
    }
    let start = run(&["start", "--help"]);
    for option in ["--config", "--workers", "--cores", "QUIT"] {
        assert!(start.stdout.contains(option), "{}", start.stdout);
    }
}

#[test]
fn wrong_arguments_are_explained() {
    for (arguments, part) in [
        (vec![], "Usage"),
        (vec!["begin"], "begin"),
        (vec!["start", "--nope"], "--nope"),
        (vec!["start", "--workers", "0"], "1 to 1024"),
        (vec!["start", "--workers", "many"], "auto"),
        (vec!["start", "--cores", "0-"], "0-3,6"),
        (vec!["start", "--cores", "1,1"], "twice"),
    ] {
        let ended = run(&arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(ended.stderr.contains(part), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn check_accepts_what_start_would() {
    let config = Config::new().text(YAML);
    let ended = config.check();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout, "osmia: the configuration is valid\n");
    config.start();
}

#[test]
fn nothing_at_all_is_a_valid_configuration() {
    let ended = run(&["check"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn wrong_values_name_their_key() {
    for (key, value, parts) in [
        ("apisix.node_listen", json!("x"), ["apisix.node_listen", "found string \"x\""]),
        ("apisix.node_listen", json!([{"port": 70000}]), ["apisix.node_listen[0].port", "70000"]),
        ("apisix.node_listen", json!([{"ip": "x"}]), ["apisix.node_listen[0].ip", "IP address"]),
        ("nginx_config.worker_processes", json!("two"), ["nginx_config.worker_processes", "auto"]),
        ("nginx_config.http.keepalive_timeout", json!("soon"), ["keepalive_timeout", "soon"]),
        ("nginx_config.http.client_max_body_size", json!([]), ["client_max_body_size", "expected"]),
        ("nginx_config.http.access_log_format", json!("$nope"), ["access_log_format", "$nope"]),
        ("nginx_config.error_log_level", json!("loud"), ["nginx_config.error_log_level", "loud"]),
        ("osmia.driver", json!("kqueue"), ["osmia.driver", "io_uring"]),
        ("osmia.cores", json!("0,0"), ["osmia.cores", "twice"]),
        ("osmia.cores", json!("1023"), ["osmia.cores", "1023"]),
        ("osmia.limits.head_bytes", json!("1m"), ["osmia.limits.head_bytes", "65535"]),
        ("osmia.limits", json!(1), ["osmia.limits", "expected"]),
        ("deployment.role", json!("queen"), ["deployment.role", "control_plane"]),
        (
            "deployment.role_data_plane.config_provider",
            json!("xds"),
            ["config_provider", "not supported yet"],
        ),
        ("apisix", json!("x"), ["apisix", "expected"]),
    ] {
        // The format is looked at only if there is a log.
        let config =
            Config::new().set("nginx_config.http.access_log", "access.log").set(key, value);
        refused(&config, &parts);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let missing = run(&["check", "--config", "nowhere.yaml"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("cannot read nowhere.yaml"), "{}", missing.stderr);
    refused(&Config::new().text("apisix: [\n"), &["config.yaml", "not valid YAML"]);
    refused(&Config::new().text("just text"), &["config.yaml"]);
    refused(&Config::new().text("apisix:\n\tx: 1\n"), &["config.yaml", "not valid YAML", "line 2"]);

    let config = Config::new();
    std::fs::create_dir(config.file("apisix.yaml")).unwrap();
    refused(&config, &["apisix.yaml", "cannot be read"]);
    let config = Config::new().set("osmia.standalone_file", "elsewhere.yaml");
    refused(&config, &["elsewhere.yaml", "cannot be read"]);
}

#[test]
fn routes_that_cannot_be_used_are_all_named() {
    let routes = [
        json!({"id": "good", "uri": "/*", "upstream": {"nodes": {"127.0.0.1:1": 1}}}),
        json!({"id": "bad", "uri": 5, "upstream": {"nodes": {}}}),
        json!({"id": "lost", "uri": "/", "upstream_id": "nobody"}),
    ];
    let text = document(&routes[..2], &[]);
    refused(
        &Config::new().routes_text(text),
        &["apisix.yaml", "routes/bad", "uri", "expected string"],
    );
    let text = document(&[routes[0].clone(), routes[2].clone()], &[]);
    refused(&Config::new().routes_text(text), &["routes/lost", "upstreams/nobody does not exist"]);
    refused(&Config::new().routes_text("routes: []\n"), &["apisix.yaml", "#END"]);
    refused(
        &Config::new().routes_text("routes: 5\n#END"),
        &["apisix.yaml", "routes", "expected a list"],
    );
    let rules = "global_rules: [{id: 1, plugins: {nobody-knows: {}}}]\n#END";
    let parts = ["global_rules/1", "unknown plugin [nobody-knows]"];
    refused(&Config::new().routes_text(rules), &parts);
}

#[test]
fn unknown_keys_are_warned_of_with_their_path() {
    let config = Config::new()
        .set("apisix.node_lisen", 1)
        .set("nginx_config.http.send_timeot", "1s")
        .set("extra.thing", true);
    let ended = config.check();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for key in ["apisix.node_lisen", "nginx_config.http.send_timeot", "extra"] {
        let line = ended.stderr.lines().find(|line| line.contains(key));
        assert!(line.is_some_and(|line| line.contains("warning")), "{}", ended.stderr);
    }
    let gateway = config.start();
    gateway.log().wait_for(&["WARN", "apisix.node_lisen", "unknown key"]);
}

#[test]
fn variables_are_filled_in() {
    let text = YAML.replace("{port}", "${{GATEWAY_PORT}}").replace("60s", "${{TIME:=30s}}");
    let upstream = Upstream::answering("filled in");
    let routes = format!(
        "routes: [{{uri: \"${{{{URI:=/default}}}}\", upstream: {{nodes: {{\"{}\": 1}}}}}}]\n#END",
        upstream.node()
    );
    let config = Config::new().text(&text).routes_text(routes);
    refused(
        &config,
        &["node_listen[0].port", "GATEWAY_PORT is not set", "${{GATEWAY_PORT:=default}}"],
    );
    let port = config.port().to_string();
    let gateway = config.environment("GATEWAY_PORT", &port).start();
    assert_eq!(gateway.get("/default").text(), "filled in");
}

#[test]
fn the_command_line_wins_over_the_environment_and_the_file() {
    let config = Config::new().set("nginx_config.worker_processes", 1);
    let gateway = config.environment("APISIX_WORKER_PROCESSES", "2").start();
    gateway.log().wait_for(&["osmia is ready", "workers=2"]);
    let config = Config::new().set("nginx_config.worker_processes", 1);
    let gateway = config
        .environment("APISIX_WORKER_PROCESSES", "2")
        .argument("--workers")
        .argument("3")
        .start();
    gateway.log().wait_for(&["osmia is ready", "workers=3"]);
    let config = Config::new().environment("APISIX_WORKER_PROCESSES", "none");
    refused(&config, &["APISIX_WORKER_PROCESSES", "none"]);
}

#[test]
fn a_taken_port_is_one_clear_line() {
    let config = Config::new().set("nginx_config.http.access_log", "access.log");
    let taken = TcpListener::bind(("127.0.0.1", config.port())).unwrap();
    let ended = config.start_refused();
    let address = taken.local_addr().unwrap().to_string();
    for part in ["osmia: cannot listen on", &address, "in use", "apisix.node_listen"] {
        assert!(ended.complaint().contains(part), "{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("ready"), "{}", ended.stderr);
}

#[test]
fn a_second_gateway_does_not_share_the_first_ones_port() {
    let first = Config::new().start();
    let second = Config::new().text(&YAML.replace("{port}", &first.addr().port().to_string()));
    assert!(second.start_refused().complaint().contains("in use"));
}

#[test]
fn too_few_descriptors_are_one_clear_line() {
    let config = Config::new().sandbox(Sandbox { files: Some((40, 40)), no_io_uring: false });
    let ended = config.start_refused();
    for part in ["osmia: too few file descriptors", "40", "128", "ulimit"] {
        assert!(ended.complaint().contains(part), "{}", ended.stderr);
    }
}

#[test]
fn an_access_log_that_cannot_be_written_is_one_clear_line() {
    let config = Config::new().set("nginx_config.http.access_log", "taken/access.log");
    std::fs::write(config.file("taken"), "a file").unwrap();
    let ended = config.start_refused();
    assert!(ended.complaint().contains("taken"), "{}", ended.stderr);
}

#[test]
fn a_refused_start_leaves_nothing_behind() {
    let config = Config::new()
        .set("nginx_config.http.access_log", "access.log")
        .routes_text("routes: 1\n#END");
    let ended = config.start_refused();
    assert!(ended.complaint().contains("routes"), "{}", ended.stderr);
    assert!(TcpListener::bind(("127.0.0.1", config.port())).is_ok());
}

#[test]
fn messages_go_to_a_file_if_wanted() {
    let mut config = Config::new().set("nginx_config.error_log", "logs/error.log");
    config = config.set("nginx_config.error_log_level", "warn").set("osmia.nope", 1);
    let log = config.file("logs/error.log");
    let command = config.check();
    assert_eq!(command.code, Some(0));
    let mut gateway = config.start_quietly();
    osmia_tests::eventually("the file has the warning", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("osmia.nope: unknown key"))
    });
    osmia_tests::eventually("it listens", || std::net::TcpStream::connect(gateway.addr()).is_ok());
    // The one who answers is ready for signals as well.
    assert_eq!(gateway.get("/").status(), 404);
    assert_eq!(gateway.stop(), "");
    assert!(!std::fs::read_to_string(&log).unwrap().contains("INFO"));
}
