//! What a gateway is started with.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

use crate::gateway::Gateway;
use crate::port::Reserved;
use crate::sandbox::Sandbox;
use crate::upstream::Upstream;

/// Which event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// `osmia.driver: io_uring`.
    IoUring,
    /// `osmia.driver: epoll`.
    Epoll,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// A gateway about to be started: one worker, not pinned, on a port of 127.0.0.1, without an access
/// log, unless said otherwise. It has a directory of its own, which is its working directory.
#[derive(Debug)]
pub struct Config {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) port: Reserved,
    /// The port of the TLS listener, when it is wanted.
    pub(crate) tls_port: Option<Reserved>,
    /// Ports of the Admin, Control and status API, when they are wanted.
    pub(crate) apis: Option<[Reserved; 3]>,
    pub(crate) document: Value,
    pub(crate) routes: Vec<Value>,
    pub(crate) upstreams: Vec<Value>,
    pub(crate) ssls: Vec<Value>,
    pub(crate) routes_text: Option<String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) sandbox: Sandbox,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// A gateway without routes.
    pub fn new() -> Self {
        let port = Reserved::new();
        let document = json!({
            "apisix": {
                "node_listen": [{"ip": "127.0.0.1", "port": port.port()}],
                "ssl": {"enable": false},
                "enable_control": false,
                "status": false,
                "ssl": {"enable": false},
            },
            "nginx_config": {
                "worker_processes": 1,
                "http": {"access_log": "off"},
            },
            "deployment": {
                "role": "data_plane",
                "role_data_plane": {"config_provider": "yaml"},
            },
            "osmia": {"pin": false},
        });
        Self {
            directory: tempfile::tempdir().unwrap(),
            port,
            tls_port: None,
            apis: None,
            document,
            routes: Vec::new(),
            upstreams: Vec::new(),
            ssls: Vec::new(),
            routes_text: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            sandbox: Sandbox::default(),
        }
    }

    /// A gateway that sends everything to `upstream`.
    pub fn proxy(driver: Driver, upstream: &Upstream) -> Self {
        Self::proxy_with(driver, upstream, json!({}))
    }

    /// A gateway that sends everything to `upstream`, with the keys of `options` in its
    /// configuration.
    pub fn proxy_with(driver: Driver, upstream: &Upstream, options: Value) -> Self {
        Self::proxy_to_nodes(driver, &[upstream.node()], options)
    }

    /// A gateway that sends everything to `nodes`, each with a weight of 1.
    pub fn proxy_to_nodes(driver: Driver, nodes: &[String], options: Value) -> Self {
        let upstream = upstream_of(nodes, options);
        Self::new().driver(driver).route(json!({"id": "all", "uri": "/*", "upstream": upstream}))
    }

    /// Sets `osmia.driver`.
    #[must_use]
    pub fn driver(self, driver: Driver) -> Self {
        self.set("osmia.driver", driver.to_string())
    }

    /// Sets the key at a dotted path of `config.yaml`.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.document;
        for name in path.split('.') {
            let map = place.as_object_mut().expect("a map on the way to the key");
            place = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
        }
        *place = value.into();
        self
    }

    /// Turns the Admin, Control and status API on, with `provider` as the store that they act on.
    /// The admin key is [`crate::admin::KEY`].
    #[must_use]
    pub fn plane(self, provider: &str) -> Self {
        let apis = [Reserved::new(), Reserved::new(), Reserved::new()];
        let place = |port: &Reserved| json!({"ip": "127.0.0.1", "port": port.port()});
        let [admin, control, status] = [place(&apis[0]), place(&apis[1]), place(&apis[2])];
        let keys = json!([{"name": "admin", "key": crate::admin::KEY, "role": "admin"}]);
        let mut config = self
            .set("apisix.enable_control", true)
            .set("apisix.control", control)
            .set("apisix.status", status)
            .set("deployment.role", "traditional")
            .set("deployment.role_traditional", json!({"config_provider": provider}))
            .set("deployment.admin", json!({"admin_listen": admin, "admin_key": keys}));
        config.apis = Some(apis);
        config
    }

    /// Adds a TLS listener ([`Gateway::tls_addr`]), on which clients may choose HTTP/2.
    #[must_use]
    pub fn tls(mut self) -> Self {
        let port = Reserved::new();
        let listen = json!([{"ip": "127.0.0.1", "port": port.port()}]);
        self.tls_port = Some(port);
        self.set("apisix.ssl.enable", true).set("apisix.ssl.listen", listen)
    }

    /// Adds an `ssl` resource, see [`crate::tls::Identity::resource`].
    #[must_use]
    pub fn ssl(mut self, ssl: Value) -> Self {
        self.ssls.push(ssl);
        self
    }

    /// A plane whose store is `etcd`.
    #[must_use]
    pub fn etcd(self, etcd: &crate::etcd::Etcd) -> Self {
        self.etcd_at(&[etcd.url()])
    }

    /// A plane whose store is an etcd with these endpoints.
    #[must_use]
    pub fn etcd_at(self, urls: &[String]) -> Self {
        self.plane("etcd").set("deployment.etcd", json!({"host": urls, "timeout": 2}))
    }

    /// Sets a key under `nginx_config.http`.
    #[must_use]
    pub fn http(self, key: &str, value: impl Into<Value>) -> Self {
        self.set(&format!("nginx_config.http.{key}"), value)
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, route: Value) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds an upstream that routes can refer to.
    #[must_use]
    pub fn upstream(mut self, upstream: Value) -> Self {
        self.upstreams.push(upstream);
        self
    }

    /// Uses `text` as `apisix.yaml`, instead of the routes.
    #[must_use]
    pub fn routes_text(mut self, text: impl Into<String>) -> Self {
        self.routes_text = Some(text.into());
        self
    }

    /// Adds an argument behind `start --config FILE`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Confines the process.
    #[must_use]
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// Uses `text` as `config.yaml`, instead of everything set so far. `{port}` in it stands for
    /// the gateway's port.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        let text = text.replace("{port}", &self.port().to_string());
        std::fs::write(self.file("config.yaml"), text).unwrap();
        self
    }

    /// A file in the gateway's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The port that the gateway is to listen on.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Gateway {
        Gateway::start(self)
    }

    /// Starts it without waiting, for a gateway whose messages go elsewhere.
    pub fn start_quietly(self) -> Gateway {
        Gateway::spawn(self)
    }

    /// Runs `osmia start`, which is expected to fail.
    #[track_caller]
    pub fn start_refused(&self) -> Ended {
        self.write();
        let ended = Ended::from(self.command("start").output().unwrap());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        ended
    }

    /// Runs `osmia check`.
    pub fn check(&self) -> Ended {
        self.write();
        Ended::from(self.command("check").output().unwrap())
    }

    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(binary());
        command
            .arg(subcommand)
            .arg("--config")
            .arg(self.file("config.yaml"))
            .args(&self.arguments)
            .current_dir(self.directory.path())
            .env_remove("OSMIA_LOG")
            .env_remove("APISIX_WORKER_PROCESSES")
            .env("RUST_BACKTRACE", "0")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        self.sandbox.apply(&mut command);
        command
    }

    /// Writes both files, unless the test wrote its own `config.yaml`.
    pub(crate) fn write(&self) {
        let config = self.file("config.yaml");
        if !config.exists() {
            std::fs::write(config, self.document.to_string()).unwrap();
        }
        let file = self.file("apisix.yaml");
        if !file.exists() {
            std::fs::write(file, self.standalone()).unwrap();
        }
    }

    fn standalone(&self) -> String {
        match &self.routes_text {
            Some(text) => text.clone(),
            None if self.ssls.is_empty() => document(&self.routes, &self.upstreams),
            None => format!(
                "{:#}\n#END\n",
                json!({"routes": self.routes, "upstreams": self.upstreams, "ssls": self.ssls})
            ),
        }
    }
}

/// The text of an `apisix.yaml`.
pub fn document(routes: &[Value], upstreams: &[Value]) -> String {
    format!("{:#}\n#END\n", json!({"routes": routes, "upstreams": upstreams}))
}

/// An upstream with `nodes`, each of weight 1, and the keys of `options`.
pub fn upstream_of(nodes: &[String], options: Value) -> Value {
    let nodes: Map<String, Value> = nodes.iter().map(|node| (node.clone(), json!(1))).collect();
    let mut upstream = json!({"type": "roundrobin", "nodes": nodes});
    let Value::Object(options) = options else { panic!("options are a map") };
    upstream.as_object_mut().unwrap().extend(options);
    upstream
}

/// The outcome of a command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None`: killed by a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The last line of its complaint.
    pub fn complaint(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }
}

/// Runs the binary with `arguments` alone, in a directory without a configuration.
pub fn run(arguments: &[&str]) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(&directory).stdin(Stdio::null());
    Ended::from(command.output().unwrap())
}

/// Runs the binary with `arguments` in `directory`.
pub fn run_in(directory: &std::path::Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .current_dir(directory)
        .env_remove("OSMIA_ADMIN_KEY")
        .stdin(Stdio::null());
    Ended::from(command.output().unwrap())
}

/// The gateway's binary: `OSMIA_BIN`, or `osmia` beside the test's own directory.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OSMIA_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let path = profile.join("osmia");
    assert!(path.exists(), "{} is missing; build it: cargo build -p osmia", path.display());
    path
}
