//! The Admin API's settings, and those of the other servers for operators.

use osmia_core::settings::{AdminKey, AdminRole, AdminSettings, AdminTls};

use super::*;

fn admin(text: &str) -> AdminSettings {
    settings_of(&format!("deployment: {{admin: {text}}}")).admin.unwrap()
}

#[test]
fn the_defaults_are_those_of_apisix() {
    let expected = AdminSettings {
        listen: "0.0.0.0:9180".parse().unwrap(),
        keys: Vec::new(),
        key_required: true,
        allow: vec!["127.0.0.0/24".to_owned()],
        cors: true,
        https: None,
        body_bytes: 1_572_864,
    };
    let settings = settings_of("");
    assert_eq!(settings.admin, Some(expected));
    assert_eq!(settings.control, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(settings.status, Some("127.0.0.1:7085".parse().unwrap()));
}

#[test]
fn keys_in_all_forms() {
    let keys = admin(
        "{admin_key: [{name: root, key: abc, role: admin}, {key: 123, role: viewer}, \
         {name: a, key: '', role: admin}, {name: b, key: , role: admin}]}",
    )
    .keys;
    let key = |name: &str, key: Option<&str>, role| AdminKey {
        name: name.to_owned(),
        key: key.map(str::to_owned),
        role,
    };
    let expected = [
        key("root", Some("abc"), AdminRole::Admin),
        key("viewer", Some("123"), AdminRole::Viewer),
        key("a", None, AdminRole::Admin),
        key("b", None, AdminRole::Admin),
    ];
    assert_eq!(keys, expected);
    assert!(admin("{admin_key: }").keys.is_empty());
}

#[test]
fn networks_in_all_forms() {
    let text = "{allow_admin: [10.0.0.0/8, 192.168.1.7, '::/64', '::1', 10.1.2.3/16]}";
    assert_eq!(
        admin(text).allow,
        ["10.0.0.0/8", "192.168.1.7/32", "::/64", "::1/128", "10.1.0.0/16"]
    );
    for everybody in ["{allow_admin: }", "{allow_admin: []}"] {
        let loaded = read(&format!("deployment: {{admin: {everybody}}}")).unwrap();
        assert!(loaded.settings.admin.unwrap().allow.is_empty());
        let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
        assert!(warning.contains("deployment.admin.allow_admin: empty, which allows every"));
    }
}

#[test]
fn switches_and_addresses() {
    let settings = admin(
        "{admin_key_required: false, enable_admin_cors: false, admin_api_version: v3, \
         admin_listen: {ip: '::1', port: 9999}}",
    );
    assert_eq!(settings.listen, "[::1]:9999".parse().unwrap());
    assert!(!settings.key_required && !settings.cors);
    let loaded = read("deployment: {admin: {admin_key_required: false}}").unwrap();
    assert!(loaded.warnings[0].contains("whoever reaches the Admin API"), "{:?}", loaded.warnings);

    let text = "apisix: {enable_admin: false, enable_control: false, status: false}";
    let settings = settings_of(text);
    assert_eq!((settings.admin, settings.control, settings.status), (None, None, None));
    let text = "apisix: {control: {port: 1}, status: {ip: 0.0.0.0}}";
    let settings = settings_of(text);
    assert_eq!(settings.control, Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(settings.status, Some("0.0.0.0:7085".parse().unwrap()));
}

#[test]
fn https_needs_a_certificate() {
    let tls = |text: &str| admin(&format!("{{https_admin: true, admin_api_mtls: {text}}}")).https;
    let certificate: (PathBuf, PathBuf) = ("c".into(), "k".into());
    let plain = AdminTls { certificate: certificate.clone(), client_authority: None };
    assert_eq!(
        tls("{admin_ssl_cert: c, admin_ssl_cert_key: k, admin_ssl_ca_cert: ''}"),
        Some(plain)
    );
    let mutual = AdminTls { certificate, client_authority: Some("ca".into()) };
    assert_eq!(
        tls("{admin_ssl_cert: c, admin_ssl_cert_key: k, admin_ssl_ca_cert: ca}"),
        Some(mutual)
    );
    let unused = "{admin_api_mtls: {admin_ssl_cert: c, admin_ssl_cert_key: k}}";
    assert_eq!(admin(unused).https, None);
    assert_eq!(
        error("deployment: {admin: {https_admin: true}}"),
        "dir/config.yaml: deployment.admin.admin_api_mtls.admin_ssl_cert: is required with \
         deployment.admin.https_admin"
    );
}

#[test]
fn roles_decide_on_admin_and_traffic() {
    let control_plane = "{apisix: {enable_admin: false}, deployment: {role: control_plane}}";
    let settings = settings_of(control_plane);
    assert!(settings.admin.is_some() && settings.listeners.is_empty());
    let loaded = read("{apisix: {node_listen: 80}, deployment: {role: control_plane}}").unwrap();
    assert_eq!(
        loaded.warnings,
        ["dir/config.yaml: apisix.node_listen: not used, a control plane serves no traffic"]
    );
    let data_plane = "{apisix: {enable_admin: true}, deployment: {role: data_plane, etcd: {}}}";
    let settings = settings_of(data_plane);
    assert!(settings.admin.is_none() && !settings.listeners.is_empty());
}

#[test]
fn what_cannot_be_is_refused() {
    let cases = [
        ("{admin_key: abc}", "admin_key: expected a list, found string \"abc\""),
        ("{admin_key: [abc]}", "admin_key[0]: expected a map with name, key and role, found"),
        ("{admin_key: [{key: a}]}", "admin_key[0].role: expected one of admin, viewer, found"),
        ("{admin_key: [{role: root}]}", "admin_key[0].role: expected one of admin, viewer, found"),
        ("{admin_key: [{key: [a], role: admin}]}", "admin_key[0].key: expected a string"),
        ("{allow_admin: [local]}", "allow_admin[0]: expected an IP address or a network such as"),
        ("{admin_api_version: v2}", "admin_api_version: expected v3, the only version there is,"),
        ("{admin_listen: {port: 0}}", "admin_listen.port: expected an integer 1-65535, found"),
    ];
    for (text, message) in cases {
        let found = error(&format!("deployment: {{admin: {text}}}"));
        assert!(
            found.starts_with(&format!("dir/config.yaml: deployment.admin.{message}")),
            "{found}"
        );
    }
}

#[test]
fn addresses_must_not_be_shared() {
    let cases = [
        (
            "apisix: {node_listen: 9180}",
            "deployment.admin.admin_listen: 0.0.0.0:9180 conflicts with apisix.node_listen, choose \
             another port",
        ),
        (
            "apisix: {control: {port: 7085}}",
            "apisix.status: 127.0.0.1:7085 conflicts with apisix.control, choose another port",
        ),
        (
            "apisix: {control: {port: 9180}}",
            "apisix.control: 127.0.0.1:9180 conflicts with deployment.admin.admin_listen, choose \
             another port",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(error(text), format!("dir/config.yaml: {message}"));
    }
    let apart = "apisix: {node_listen: [{ip: 127.0.0.2, port: 9090}], enable_ipv6: false}";
    assert_eq!(settings_of(apart).control, Some("127.0.0.1:9090".parse().unwrap()));
}
