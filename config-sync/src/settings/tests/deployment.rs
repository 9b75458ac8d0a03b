//! Roles, providers, etcd, and how resources are read.

use std::time::Duration;

use osmia_core::keyring::Keyring;
use osmia_core::router::Mode;
use osmia_core::rules::UnknownPlugins;
use osmia_core::settings::{EtcdSettings, FileFormat, ResourceSettings};

use super::*;

fn etcd_defaults() -> EtcdSettings {
    EtcdSettings {
        endpoints: vec!["http://127.0.0.1:2379".to_owned()],
        prefix: "/apisix".to_owned(),
        credentials: None,
        timeout: Duration::from_secs(30),
        client_certificate: None,
        verify: true,
        server_name: None,
        trusted: None,
        accept_empty: false,
    }
}

#[test]
fn providers() {
    let yaml = |path: &str| ConfigProvider::yaml(PathBuf::from(path));
    let json = |path: &str| ConfigProvider::File { path: path.into(), format: FileFormat::Json };
    let seeded = |seed| ConfigProvider::Embedded { seed };
    let etcd = || ConfigProvider::Etcd(etcd_defaults());
    let cases = [
        ("{}", seeded(Seed::Empty)),
        ("{deployment: {role: traditional, admin: {admin_key: []}}}", seeded(Seed::Empty)),
        ("{deployment: {role_traditional: {config_provider: embedded}}}", seeded(Seed::Empty)),
        ("{osmia: {embedded: {seed: a/b.yaml}}}", seeded(Seed::File("dir/a/b.yaml".into()))),
        (
            "{deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}}",
            yaml("dir/apisix.yaml"),
        ),
        (
            "{deployment: {role: data_plane, role_data_plane: {config_provider: json}}}",
            json("dir/apisix.json"),
        ),
        ("{deployment: {role_traditional: {config_provider: yaml}}}", yaml("dir/apisix.yaml")),
        ("{osmia: {standalone_file: a/b.yaml}}", yaml("dir/a/b.yaml")),
        (
            "{deployment: {role_traditional: {config_provider: yaml}}, osmia: {standalone_file: /x}}",
            yaml("/x"),
        ),
        ("{deployment: {role_traditional: {config_provider: etcd}}}", etcd()),
        ("{deployment: {etcd: {prefix: /apisix/}}}", etcd()),
        ("{deployment: {role: data_plane, etcd: {}}}", etcd()),
        ("{deployment: {role: control_plane}}", etcd()),
        (
            "{deployment: {role: control_plane, role_control_plane: {config_provider: etcd}}}",
            etcd(),
        ),
    ];
    for (text, provider) in cases {
        assert_eq!(settings_of(text).provider, provider, "{text}");
    }
}

#[test]
fn providers_that_cannot_be() {
    let cases = [
        ("{role: data_plane}", "role_data_plane.config_provider: a data plane has no Admin API"),
        (
            "{role: data_plane, role_data_plane: {config_provider: xds}}",
            "role_data_plane.config_provider: xds is not supported yet by this version",
        ),
        (
            "{role: control_plane, role_control_plane: {config_provider: yaml}}",
            "role_control_plane.config_provider: a control plane changes what other processes",
        ),
        ("{role: x}", "role: expected one of traditional, data_plane, control_plane, found"),
        (
            "{role_traditional: {config_provider: 7}}",
            "role_traditional.config_provider: expected one of etcd, yaml, json, embedded, xds, \
             found number 7",
        ),
    ];
    for (text, message) in cases {
        let found = error(&format!("deployment: {text}"));
        assert!(found.starts_with(&format!("dir/config.yaml: deployment.{message}")), "{found}");
    }
}

#[test]
fn a_process_without_a_file_has_the_demo() {
    let loaded = load_text("", None, &Overrides::default(), &env).unwrap();
    assert_eq!(loaded.settings.provider, ConfigProvider::demo());
}

#[test]
fn etcd_with_everything() {
    let text = "
deployment:
  etcd:
    host: ['https://a:2379/', 'http://b:2379']
    prefix: /x/
    user: root
    password: secret
    timeout: 5
    watch_timeout: 50
    startup_retry: 2
    tls: {cert: c.pem, key: k.pem, verify: false, sni: name}
apisix: {ssl: {ssl_trusted_certificate: ca.pem}}
osmia: {etcd: {accept_empty: true}}
";
    let loaded = read(text).unwrap();
    let expected = EtcdSettings {
        endpoints: vec!["https://a:2379".to_owned(), "http://b:2379".to_owned()],
        prefix: "/x".to_owned(),
        credentials: Some(("root".to_owned(), "secret".to_owned())),
        timeout: Duration::from_secs(5),
        client_certificate: Some(("c.pem".into(), "k.pem".into())),
        verify: false,
        server_name: Some("name".to_owned()),
        trusted: Some("ca.pem".into()),
        accept_empty: true,
    };
    assert_eq!(loaded.settings.provider, ConfigProvider::Etcd(expected));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.unused, ["deployment.etcd.startup_retry", "deployment.etcd.watch_timeout"]);
    let system = "{deployment: {etcd: {}}, apisix: {ssl: {ssl_trusted_certificate: system}}}";
    assert_eq!(settings_of(system).provider, ConfigProvider::Etcd(etcd_defaults()));
}

#[test]
fn etcd_that_cannot_be() {
    let url = "a URL that begins with http:// or https://";
    let cases = [
        ("{host: []}", "host: expected a list with at least one URL, found a list".to_owned()),
        ("{host: 'http://a'}", "host: expected a list, found string \"http://a\"".to_owned()),
        ("{host: ['a:1']}", format!("host[0]: expected {url}, found string \"a:1\"")),
        ("{host: ['http://']}", format!("host[0]: expected {url}, found string \"http://\"")),
        ("{host: [1]}", format!("host[0]: expected {url}, found number 1")),
        ("{prefix: /}", "prefix: expected a prefix such as /apisix, found string \"/\"".to_owned()),
        ("{user: a}", "password: is required with deployment.etcd.user".to_owned()),
        ("{tls: {key: a}}", "tls.cert: is required with deployment.etcd.tls.key".to_owned()),
        ("{timeout: 0}", "timeout: expected an integer 1-86400, found number 0".to_owned()),
    ];
    for (text, message) in cases {
        let found = error(&format!("deployment: {{etcd: {text}}}"));
        assert_eq!(found, format!("dir/config.yaml: deployment.etcd.{message}"));
    }
}

#[test]
fn the_environment_overrides_the_endpoints_and_asks_for_etcd() {
    let load = |hosts: &'static str, text: &str| {
        let env =
            move |name: &str| (name == "APISIX_DEPLOYMENT_ETCD_HOST").then(|| hosts.to_owned());
        load_text(text, Some(Path::new("c")), &Overrides::default(), &env)
    };
    let endpoints = ["http://e1:2379", "https://e2"].map(str::to_owned).to_vec();
    let expected = ConfigProvider::Etcd(EtcdSettings { endpoints, ..etcd_defaults() });
    let hosts = "[\"http://e1:2379\", \"https://e2\"]";
    for text in ["", "deployment: {etcd: {host: ['http://other']}}"] {
        assert_eq!(load(hosts, text).unwrap().settings.provider, expected, "{text}");
    }
    let yaml = "deployment: {role_traditional: {config_provider: yaml}}";
    let provider = load(hosts, yaml).unwrap().settings.provider;
    assert_eq!(provider, ConfigProvider::yaml("apisix.yaml".into()));
    let error = load("http://e1", "").unwrap_err().to_string();
    let start = "c: environment variable APISIX_DEPLOYMENT_ETCD_HOST: expected a JSON list such as";
    assert!(error.starts_with(start), "{error}");
    let error = load("[1]", "").unwrap_err().to_string();
    assert!(error.contains("APISIX_DEPLOYMENT_ETCD_HOST[0]: expected a URL"), "{error}");
}

#[test]
fn how_resources_are_read() {
    let keyring = |keys: &[&str]| Keyring::new(keys.iter().map(|key| (*key).to_owned()).collect());
    let defaults = ResourceSettings {
        plugins: None,
        unknown_plugins: UnknownPlugins::Refuse,
        keyring: keyring(&["qeddd145sfvddff3", "edd1c9f0985e76a2"]),
        encrypt_fields: true,
        stream: false,
        router: Mode::HostUri,
    };
    assert_eq!(settings_of("").resources, defaults);
    let text = "
plugins: [limit-count]
apisix:
  proxy_mode: http&stream
  router: {http: radixtree_uri_with_parameter}
  data_encryption: {enable_encrypt_fields: false, keyring: 0123456789abcdef}
osmia: {unknown_plugins: [a, b]}
";
    let expected = ResourceSettings {
        plugins: Some(vec!["limit-count".to_owned()]),
        unknown_plugins: UnknownPlugins::SkipNamed(vec!["a".to_owned(), "b".to_owned()]),
        keyring: keyring(&["0123456789abcdef"]),
        encrypt_fields: false,
        stream: true,
        router: Mode::UriWithParameter,
    };
    assert_eq!(settings_of(text).resources, expected);
    for off in ["null", "[]"] {
        let text = format!("apisix: {{data_encryption: {{keyring: {off}}}}}");
        assert!(settings_of(&text).resources.keyring.is_empty(), "{text}");
    }
    let skip = settings_of("osmia: {unknown_plugins: skip}").resources.unknown_plugins;
    assert_eq!(skip, UnknownPlugins::Skip);
    assert_eq!(
        error("apisix: {data_encryption: {keyring: [0123456789abcdef, short]}}"),
        "dir/config.yaml: apisix.data_encryption.keyring[1]: expected a string of 16 bytes \
         (AES-128) or 32 bytes (AES-256)"
    );
    assert!(error("osmia: {unknown_plugins: ignore}").contains("expected refuse, skip, or a list"));
    assert!(error("plugins: [1]").contains("plugins[0]: expected a string"));
}

#[test]
fn where_data_lies() {
    let settings = settings_of("osmia: {data_dir: /var/lib/osmia, history: {keep: 5}}");
    assert_eq!((settings.data_dir, settings.history_keep), (PathBuf::from("/var/lib/osmia"), 5));
    assert!(
        error("osmia: {history: {keep: 0}}").contains("osmia.history.keep: expected an integer")
    );
}
