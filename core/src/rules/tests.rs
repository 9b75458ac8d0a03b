use serde_json::json;

use super::*;
use crate::plugin;

const RSA: (&str, &str) = (include_str!("testdata/rsa.crt"), include_str!("testdata/rsa.key"));
const ECC: (&str, &str) = (include_str!("testdata/ecc.crt"), include_str!("testdata/ecc.key"));
const SEC1: &str = include_str!("testdata/ecc-sec1.key");
const P521: (&str, &str) = (include_str!("testdata/p521.crt"), include_str!("testdata/p521.key"));

fn rules() -> Rules {
    Rules {
        plugins: Arc::new(plugin::tests::some()),
        keyring: Keyring::new(vec!["edd1c9f0985e76a2".to_owned(), "qeddd145sfvddff3".to_owned()]),
        encrypt_fields: true,
        ..Rules::default()
    }
}

fn check(kind: Kind, mut value: Value) -> Result<Value, String> {
    rules().check(kind, &mut value).map(|()| value)
}

fn error(kind: Kind, value: Value) -> String {
    check(kind, value).unwrap_err()
}

fn refused(kind: Kind, cases: impl IntoIterator<Item = (Value, &'static str)>) {
    for (value, expected) in cases {
        assert_eq!(error(kind, value.clone()), expected, "{kind} {value}");
    }
}

/// A valid resource with the fields of `extra` over it.
fn over(base: Value, extra: Value) -> Value {
    let (Value::Object(mut base), Value::Object(extra)) = (base, extra) else {
        panic!("not objects")
    };
    base.extend(extra);
    Value::Object(base)
}

fn upstream(extra: Value) -> Value {
    over(json!({"nodes": {"127.0.0.1:80": 1}}), extra)
}

fn route(extra: Value) -> Value {
    over(json!({"uri": "/a", "upstream": upstream(json!({}))}), extra)
}

fn ssl(extra: Value) -> Value {
    over(json!({"cert": RSA.0, "key": RSA.1, "sni": "a.com"}), extra)
}

#[test]
fn defaults_are_filled_in() {
    let filled = check(Kind::Route, route(json!({}))).unwrap();
    assert_eq!((&filled["priority"], &filled["status"]), (&json!(0), &json!(1)));
    assert_eq!(filled["upstream"]["type"], "roundrobin");
    assert_eq!(filled["upstream"]["pass_host"], "pass");
    let count = json!({"plugins": {"count": {"count": 1}}});
    let filled = check(Kind::Route, route(count)).unwrap();
    assert_eq!(filled["plugins"]["count"]["policy"], "local");
}

#[test]
fn routes_in_the_words_of_apisix() {
    let cases = [
        (json!({"host": "a", "hosts": ["b"]}), "only one of host or hosts is allowed"),
        (
            json!({"remote_addr": "::1", "remote_addrs": ["::1"]}),
            "only one of remote_addr or remote_addrs is allowed",
        ),
        (
            json!({"priority": "x"}),
            "invalid configuration: property \"priority\" validation failed: wrong type: expected \
             integer, got string",
        ),
        (json!({"upstream": upstream(json!({"type": "chash"}))}), "missing key"),
        (
            json!({"vars": ["http_user_agent", "~*", "android"]}),
            "failed to validate the 'vars' expression: rule should be wrapped inside brackets",
        ),
        (
            json!({"vars": [["remote_addr", "=", "127.0.0.1"]]}),
            "failed to validate the 'vars' expression: invalid operator '='",
        ),
        (json!({"plugins": {"other": {}}}), "unknown plugin [other]"),
        (
            json!({"script": "local _M = {} return _M", "plugins": {}}),
            "invalid configuration: value wasn't supposed to match schema",
        ),
    ];
    refused(Kind::Route, cases.map(|(extra, expected)| (route(extra), expected)));
    let vars = json!({"vars": [[["post_arg.messages[.content[*].type", "has", "image_url"]]]});
    let text = error(Kind::Route, route(vars));
    let start = "failed to validate the 'vars' expression: invalid expression";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn what_is_not_honoured_is_refused_unless_it_is_stored() {
    let lacking = [
        (Kind::Route, route(json!({"filter_func": "function() end"})), "\"filter_func\""),
        (Kind::Service, json!({"script": "return {} -- a"}), "\"script\""),
        (Kind::Upstream, upstream(json!({"scheme": "kafka"})), "\"kafka\""),
        (Kind::Upstream, upstream(json!({"type": "my_own"})), "\"my_own\""),
    ];
    for (kind, value, what) in lacking {
        let text = error(kind, value.clone());
        let end = format!("validation failed: {what} is not supported yet by this version");
        assert!(text.starts_with("invalid configuration: ") && text.ends_with(&end), "{text}");
        assert_eq!(rules().check_stored(kind, &value), Ok(()));
    }
}

#[test]
fn upstreams_in_the_words_of_apisix() {
    let pattern = "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|\
                   query_string|host|hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$";
    let vars: &'static str = Box::leak(
        format!(
            "invalid configuration: failed to match pattern \"{pattern}\" with \"not_support\""
        )
        .into_boxed_str(),
    );
    let cases = [
        (
            json!({"nodes": [{"host": "::1", "port": 80, "weight": 1}]}),
            "invalid configuration: IPv6 address must be enclosed with '[' and ']'",
        ),
        (json!({"nodes": {"127.0.0.1:65536": 1}}), "invalid port 65536"),
        (json!({"nodes": {"127.0.0.1:0": 1}}), "invalid port 0"),
        (json!({"nodes": {"[::1]:70000": 1}}), "invalid port 70000"),
        (
            json!({"pass_host": "rewrite"}),
            "`upstream_host` can't be empty when `pass_host` is `rewrite`",
        ),
        (json!({"type": "chash", "hash_on": "header"}), "missing key"),
        (json!({"type": "chash", "hash_on": "cookie"}), "missing key"),
        (json!({"type": "chash", "hash_on": "vars", "key": "not_support"}), vars),
        (
            json!({"type": "chash", "hash_on": "cookie", "key": "a$b"}),
            "invalid configuration: failed to match pattern \"^[a-zA-Z0-9-_]+$\" with \"a$b\"",
        ),
        (
            json!({"tls": {"client_cert": "c".repeat(128), "client_key": RSA.1}}),
            "failed to parse cert: PEM_read_bio_X509_AUX() failed",
        ),
        (
            json!({"tls": {"client_cert": RSA.0, "client_key": "k".repeat(64)}}),
            "failed to decrypt previous encrypted key",
        ),
        (
            json!({"tls": {"client_cert": RSA.0, "client_key": ECC.1}}),
            "failed to parse key: it does not belong to the certificate",
        ),
    ];
    refused(Kind::Upstream, cases.map(|(extra, expected)| (upstream(extra), expected)));
    let consumer = upstream(json!({"type": "chash", "hash_on": "consumer"}));
    assert!(check(Kind::Upstream, consumer).is_ok(), "no key is needed");
    let good = json!({"nodes": [{"host": "[::1]", "port": 80, "weight": 1}],
        "tls": {"client_cert": RSA.0, "client_key": RSA.1}});
    assert!(check(Kind::Upstream, upstream(good)).is_ok());
}

#[test]
fn certificates_and_keys_must_fit() {
    for (certificate, key) in [RSA, ECC, (ECC.0, SEC1), P521] {
        let value = ssl(json!({"cert": certificate, "key": key}));
        assert!(check(Kind::Ssl, value).is_ok());
    }
    let chain = [RSA.0, ECC.0].concat();
    let second = json!({"certs": [ECC.0], "keys": [ECC.1], "client": {"ca": RSA.0, "depth": 2}});
    assert!(check(Kind::Ssl, ssl(json!({"cert": chain}))).is_ok());
    assert!(check(Kind::Ssl, ssl(second)).is_ok());
    let client = json!({"type": "client", "cert": RSA.0, "key": RSA.1});
    assert!(check(Kind::Ssl, client).is_ok());
    let reference = json!({"cert": "$secret://vault/1/cert", "key": "$ENV://KEY"});
    assert!(check(Kind::Ssl, ssl(reference)).is_ok());
    let encrypted = rules().keyring.encrypt(RSA.1);
    assert!(check(Kind::Ssl, ssl(json!({"key": encrypted}))).is_ok());
    let broken = RSA.0.replacen("MII", "AII", 1);
    let damaged_key = RSA.1.replacen("MII", "AII", 1);
    let cases = [
        (json!({"cert": broken}), "failed to parse cert: PEM_read_bio_X509_AUX() failed"),
        (json!({"cert": RSA.1}), "failed to parse cert: PEM_read_bio_X509_AUX() failed"),
        (json!({"key": RSA.0}), "failed to parse key: PEM_read_bio_PrivateKey() failed"),
        (json!({"key": damaged_key}), "failed to parse key: PEM_read_bio_PrivateKey() failed"),
        (json!({"key": ECC.1}), "failed to parse key: it does not belong to the certificate"),
        (json!({"certs": [ECC.0]}), "mismatched number of certs and keys"),
        (
            json!({"certs": ["c".repeat(128)], "keys": [ECC.1]}),
            "failed to handle cert-key pair[1]: failed to parse cert: PEM_read_bio_X509_AUX() \
             failed",
        ),
        (
            json!({"certs": [ECC.0], "keys": ["k".repeat(64)]}),
            "failed to handle cert-key pair[1]: failed to decrypt previous encrypted key",
        ),
        (
            json!({"client": {"ca": "c".repeat(128)}}),
            "failed to validate client_cert: failed to parse cert: PEM_read_bio_X509_AUX() failed",
        ),
    ];
    refused(Kind::Ssl, cases.map(|(extra, expected)| (ssl(extra), expected)));
    // Without a keyring there is nothing to decrypt, so it is a key that cannot be read.
    let bare = Rules::default().check(Kind::Ssl, &mut ssl(json!({"key": "k".repeat(64)})));
    assert_eq!(bare, Err("failed to parse key: PEM_read_bio_PrivateKey() failed".to_owned()));
}

#[test]
fn plugins_in_the_words_of_apisix() {
    let cases = [
        (
            json!({"count": {"count": -1}}),
            "failed to check the configuration of plugin count err: property \"count\" validation \
             failed: expected -1 to be at least 0",
        ),
        (
            json!({"fussy": {"word": "x"}}),
            "failed to check the configuration of plugin fussy err: \"x\" is not allowed",
        ),
        (json!({"count": 1}), "invalid plugin conf 1 for plugin [count]"),
        (json!({"other": "x"}), "invalid plugin conf \"x\" for plugin [other]"),
        (json!({"count": {"count": 1}, "nope": {}}), "unknown plugin [nope]"),
        (
            json!({"both": {"_meta": {"filter": ["arg_k", "==", "v"]}}}),
            "failed to validate the 'vars' expression: rule should be wrapped inside brackets",
        ),
        (
            json!({"both": {"_meta": {"filter": [["arg_k", "*=", "v"]]}}}),
            "failed to validate the 'vars' expression: invalid operator '*='",
        ),
        (
            json!({"both": {"_meta": {"pre_function": "return function() end"}}}),
            "failed to load _meta.pre_function in plugin both: Lua is not supported yet by this \
             version",
        ),
    ];
    for kind in [Kind::Route, Kind::PluginConfig, Kind::GlobalRule, Kind::ConsumerGroup] {
        let with = |plugins: &Value| match kind {
            Kind::Route => json!({"uri": "/a", "plugins": plugins}),
            _ => json!({"id": 1, "plugins": plugins}),
        };
        refused(kind, cases.iter().map(|(plugins, expected)| (with(plugins), *expected)));
        let off = json!({"count": {"count": -1, "_meta": {"disable": true}}});
        assert!(check(kind, with(&off)).is_ok(), "a plugin that is off may be wrong");
    }
}

#[test]
fn unknown_plugins_are_skipped_on_request_only() {
    let value = || json!({"uri": "/a", "plugins": {"nope": {"a": 1}}});
    let with = |unknown| Rules { unknown, ..rules() }.check(Kind::Route, &mut value());
    assert_eq!(with(UnknownPlugins::Skip), Ok(()));
    assert_eq!(with(UnknownPlugins::SkipNamed(vec!["nope".to_owned()])), Ok(()));
    let refused = Err("unknown plugin [nope]".to_owned());
    assert_eq!(with(UnknownPlugins::SkipNamed(vec!["else".to_owned()])), refused);
    assert_eq!(with(UnknownPlugins::Refuse), refused);
    assert_eq!(rules().check_stored(Kind::Route, &value()), Ok(()), "its user decides");
    let wrong = json!({"id": 1, "plugins": {"count": {}}});
    assert!(rules().check_stored(Kind::GlobalRule, &wrong).is_err());
}

#[test]
fn consumers_in_the_words_of_apisix() {
    refused(
        Kind::Consumer,
        [
            (json!({}), "invalid configuration: property \"username\" is required"),
            (
                json!({"username": "jack", "plugins": {"nope": {}}}),
                "invalid plugins configuration: unknown plugin [nope]",
            ),
            (
                json!({"username": "jack", "plugins": {"key": {}}}),
                "invalid plugins configuration: failed to check the configuration of plugin key err: \
             property \"key\" is required",
            ),
        ],
    );
    let good = json!({"username": "jack", "plugins": {"key": {"key": "k"}, "count": {"count": 1}}});
    assert!(check(Kind::Consumer, good).is_ok());
    refused(
        Kind::Credential,
        [
            (
                json!({"plugins": {"count": {"count": 1}}}),
                "only supports auth type plugins in consumer credential",
            ),
            (
                json!({"plugins": {"key": {}}}),
                "invalid plugins configuration: failed to check the configuration of plugin key err: \
             property \"key\" is required",
            ),
        ],
    );
    assert!(check(Kind::Credential, json!({"id": "c", "plugins": {"key": {"key": "k"}}})).is_ok());
}

#[test]
fn metadata_is_checked_by_its_plugin() {
    let filled = check(Kind::PluginMetadata, json!({"id": "both"})).unwrap();
    assert_eq!(filled, json!({"id": "both", "level": 3}));
    assert!(check(Kind::PluginMetadata, json!({"id": "key", "any": 1})).is_ok());
    refused(
        Kind::PluginMetadata,
        [
            (json!({}), "missing plugin name"),
            (json!({"id": "nope"}), "invalid plugin name"),
            (
                json!({"id": "both", "level": "x"}),
                "invalid configuration: property \"level\" validation failed: wrong type: expected \
             integer, got string",
            ),
        ],
    );
    let unknown = json!({"id": "nope", "a": 1});
    assert_eq!(rules().check_stored(Kind::PluginMetadata, &unknown), Ok(()));
}

#[test]
fn secrets_are_checked_by_their_manager() {
    let vault = json!({"id": "vault/1", "uri": "http://127.0.0.1:8200", "prefix": "p",
        "token": "t"});
    assert!(check(Kind::Secret, vault).is_ok());
    let aws = json!({"id": "aws/1", "access_key_id": "a", "secret_access_key": "s"});
    assert_eq!(check(Kind::Secret, aws).unwrap()["region"], "us-east-1");
    refused(
        Kind::Secret,
        [
            (json!({"uri": "http://a"}), "missing secret type"),
            (json!({"id": "other/1"}), "invalid secret manager: other"),
            (
                json!({"id": "aws/1", "access_key_id": "a"}),
                "invalid configuration: property \"secret_access_key\" is required",
            ),
        ],
    );
}

#[test]
fn protos_must_compile() {
    let proto = |content: &str| check(Kind::Proto, json!({"id": 1, "content": content}));
    let text = "syntax = \"proto3\"; package a; import \"google/protobuf/empty.proto\";\
                service S { rpc M (R) returns (google.protobuf.Empty) {} } message R {}";
    assert!(proto(text).is_ok());
    assert!(proto(SET).is_ok());
    for bad in [
        "syntax = \"proto3\"; message A { string name = 1; }\"",
        "syntax = \"proto3\"; message A { Missing name = 1; }",
        "import \"other.proto\";",
        "import \"content.proto\";",
        "aGVsbG8=",
    ] {
        let error = proto(bad).unwrap_err();
        assert!(error.starts_with("invalid content: "), "{bad}: {error}");
    }
}

/// `protoc --descriptor_set_out` of a service with two messages, in base64.
const SET: &str = "CrgBCgtyZXMtdC5wcm90bxIKaGVsbG93b3JsZCIiCgxIZWxsb1JlcXVlc3QSEgoEbmFtZRgBIAEoCVIEbmFt\
    ZSImCgpIZWxsb1JlcGx5EhgKB21lc3NhZ2UYASABKAlSB21lc3NhZ2UySQoHR3JlZXRlchI+CghTYXlIZWxs\
    bxIYLmhlbGxvd29ybGQuSGVsbG9SZXF1ZXN0GhYuaGVsbG93b3JsZC5IZWxsb1JlcGx5IgBiBnByb3RvMw==";

#[test]
fn stream_routes_in_the_words_of_apisix() {
    let good = json!({"server_port": 2000, "upstream": {"nodes": {"a:80": 1}, "scheme": "tcp"},
        "plugins": {"both": {}}});
    assert!(check(Kind::StreamRoute, good).is_ok());
    refused(
        Kind::StreamRoute,
        [
            (json!({"plugins": {"mqttt-proxy": {}}}), "unknown plugin [mqttt-proxy]"),
            (json!({"plugins": {"count": {"count": 1}}}), "unknown plugin [count]"),
            (json!({"protocol": {"name": "xxx"}}), "unknown protocol [xxx]"),
        ],
    );
}

#[test]
fn the_other_kinds_follow_their_schema() {
    assert!(check(Kind::Plugins, json!([{"name": "a", "stream": true}])).is_ok());
    assert!(check(Kind::GraphqlCost, json!({"field_path": "Query.a"})).is_ok());
    for (kind, value) in [
        (Kind::Plugins, json!([{}])),
        (Kind::GraphqlCost, json!({})),
        (Kind::GlobalRule, json!({"id": 1})),
        (Kind::PluginConfig, json!({"plugins": {}})),
        (Kind::ConsumerGroup, json!([])),
        (Kind::PluginMetadata, json!(1)),
        (Kind::Secret, json!("x")),
        (Kind::Route, json!(null)),
    ] {
        assert!(error(kind, value).len() > 10);
    }
}

#[test]
fn sensitive_fields_are_encrypted_and_decrypted() {
    let rules = rules();
    let cases = [
        (Kind::Ssl, ssl(json!({"keys": [ECC.1], "certs": [ECC.0]})), vec!["/key", "/keys/0"]),
        (
            Kind::Route,
            route(json!({
                "upstream": {"tls": {"client_key": RSA.1}},
                "plugins": {"count": {"redis": {"password": "p", "others": ["a", "b"]}}},
            })),
            vec![
                "/upstream/tls/client_key",
                "/plugins/count/redis/password",
                "/plugins/count/redis/others/1",
            ],
        ),
        (Kind::Upstream, json!({"tls": {"client_key": RSA.1}}), vec!["/tls/client_key"]),
        (Kind::Consumer, json!({"plugins": {"key": {"key": "k"}}}), vec!["/plugins/key/key"]),
        (Kind::PluginMetadata, json!({"id": "both", "token": "t", "level": 1}), vec!["/token"]),
    ];
    for (kind, plain, paths) in cases {
        let mut value = plain.clone();
        rules.encrypt(kind, &mut value);
        for path in paths {
            let (hidden, text) = (value.pointer(path).unwrap(), plain.pointer(path).unwrap());
            assert_ne!(hidden, text, "{path}");
            let hidden = hidden.as_str().unwrap();
            assert_eq!(rules.keyring.decrypt(hidden).as_deref(), text.as_str(), "{path}");
        }
        rules.decrypt(kind, &mut value);
        assert_eq!(value, plain);
    }
}

#[test]
fn what_is_not_sensitive_or_not_encrypted_stays() {
    let unchanged = |rules: &Rules, kind, value: Value| {
        let mut copy = value.clone();
        rules.encrypt(kind, &mut copy);
        assert_eq!(copy, value);
        rules.decrypt(kind, &mut copy);
        assert_eq!(copy, value);
    };
    let conf = json!({"plugins": {"key": {"key": "k"}, "nope": {"key": "k"}, "count": 1}});
    let fields_off = Rules { encrypt_fields: false, ..rules() };
    unchanged(&fields_off, Kind::Consumer, conf.clone());
    unchanged(&Rules::default(), Kind::Ssl, ssl(json!({})));
    unchanged(&rules(), Kind::Route, conf.clone());
    unchanged(&rules(), Kind::Ssl, json!({"key": "$secret://vault/1/a", "keys": 1}));
    for kind in Kind::ALL {
        unchanged(&rules(), kind, json!([]));
        unchanged(&rules(), kind, json!({"plugins": [], "upstream": 1, "tls": "x", "id": 7}));
    }
    let mut plain = conf.clone();
    rules().decrypt(Kind::Consumer, &mut plain);
    assert_eq!(plain, conf, "what was never encrypted");
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What passes is taken by the typed parser, and again with its defaults.
        #[test]
        fn json_is_taken_or_refused_with_a_reason(value in crate::resource::tests::json()) {
            let rules = rules();
            for kind in Kind::ALL {
                let mut checked = value.clone();
                match rules.check(kind, &mut checked) {
                    Err(reason) => prop_assert!(!reason.is_empty()),
                    Ok(()) => {
                        let mut again = checked.clone();
                        prop_assert_eq!(rules.check(kind, &mut again), Ok(()));
                        prop_assert_eq!(again, checked);
                    }
                }
                rules.encrypt(kind, &mut value.clone());
                rules.decrypt(kind, &mut value.clone());
            }
        }
    }
}
