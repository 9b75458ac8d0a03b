//! Who is compared, and how each is started for equivalent work.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::child::Running;
use crate::http;
use crate::programs::Programs;

/// How long a program may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Starts that may fail because something else took the port in between.
const START_ATTEMPTS: usize = 3;

/// The template of this name: the one for plain HTTP/1.1 or the one for all protocols.
macro_rules! peer {
    ($site:expr, $name:literal) => {
        if $site.protocols.is_some() {
            include_str!(concat!("../../../peers/protocols/", $name))
        } else {
            include_str!(concat!("../../../peers/", $name))
        }
    };
}

/// One row of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// Osmia on its best driver, access log off.
    Osmia,
    /// Osmia with the access log on.
    OsmiaLog,
    /// Osmia on epoll, access log off.
    OsmiaEpoll,
    /// Osmia with rules to match, nodes to balance over and passive health checks.
    OsmiaRules,
    /// Another Osmia binary (`--baseline`), to measure a change against what was before it.
    OsmiaBase,
    /// nginx from the distribution.
    Nginx,
    /// `HAProxy` from the distribution.
    Haproxy,
    /// Envoy from the Python package.
    Envoy,
    /// Our small program on the `pingora` crate.
    Pingora,
    /// The bare relay: the practical limit.
    Relay,
}

impl Contender {
    /// Name in tables and files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Osmia => "osmia",
            Self::OsmiaLog => "osmia-log",
            Self::OsmiaEpoll => "osmia-epoll",
            Self::OsmiaRules => "osmia-rules",
            Self::OsmiaBase => "osmia-base",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Pingora => "pingora",
            Self::Relay => "relay",
        }
    }

    /// Whether this is a way to run Osmia.
    pub(crate) fn is_osmia(self) -> bool {
        use Contender::{Osmia, OsmiaBase, OsmiaEpoll, OsmiaLog, OsmiaRules};
        matches!(self, Osmia | OsmiaLog | OsmiaEpoll | OsmiaRules | OsmiaBase)
    }

    /// Whether this is a product to compare with: neither Osmia nor the relay.
    pub(crate) fn is_peer(self) -> bool {
        !self.is_osmia() && self != Self::Relay
    }

    /// Writes the configuration to `dir` and gives the command that runs the contender on `port`.
    fn command(self, programs: &Programs, site: &Site<'_>) -> Result<Command> {
        let program = programs.need(self)?;
        let mut command = Command::new(program);
        let plain = peer!(site, "osmia-apisix.yaml");
        let rules = include_str!("../../../peers/osmia-rules.yaml");
        match self {
            Self::Osmia | Self::OsmiaBase => osmia(&mut command, site, plain, false, "auto")?,
            Self::OsmiaLog => osmia(&mut command, site, plain, true, "auto")?,
            Self::OsmiaEpoll => osmia(&mut command, site, plain, false, "epoll")?,
            Self::OsmiaRules => osmia(&mut command, site, rules, false, "auto")?,
            Self::Nginx => {
                let config = site.write("nginx.conf", peer!(site, "nginx.conf"))?;
                command.arg("-p").arg(site.dir).arg("-c").arg(config);
                command.arg("-e").arg(site.dir.join("nginx-error.log"));
            }
            Self::Haproxy => {
                let config = site.write("haproxy.cfg", peer!(site, "haproxy.cfg"))?;
                command.arg("-db").arg("-f").arg(config);
            }
            Self::Envoy => {
                let config = site.write("envoy.yaml", peer!(site, "envoy.yaml"))?;
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "warn", "-c"]);
                command.arg(config);
            }
            Self::Pingora | Self::Relay => {
                command.args(["--listen", &format!("127.0.0.1:{}", site.port)]);
                command.args(["--upstream", &site.upstream.to_string()]);
            }
        }
        Ok(command)
    }
}

fn osmia(
    command: &mut Command,
    site: &Site<'_>,
    resources: &str,
    access_log: bool,
    driver: &str,
) -> Result<()> {
    site.write("apisix.yaml", resources)?;
    let template = peer!(site, "osmia-config.yaml")
        .replace("@ACCESS_LOG@", if access_log { "true" } else { "false" })
        .replace("@DRIVER@", driver);
    let config = site.write("config.yaml", &template)?;
    command.arg("start").arg("--config").arg(config).current_dir(site.dir);
    Ok(())
}

/// What a contender needs for more than plain HTTP/1.1.
#[derive(Debug, Clone)]
pub(crate) struct Protocols {
    /// Where gRPC goes.
    pub(crate) grpc: SocketAddr,
    /// The certificate and its key, PEM.
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// Where a contender listens besides the port for plain HTTP/1.1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// TLS with HTTP/1.1 and HTTP/2.
    pub(crate) tls: SocketAddr,
    /// HTTP/2 by prior knowledge.
    pub(crate) h2c: SocketAddr,
}

impl Ports {
    fn free() -> Result<Self> {
        let addr =
            || Ok::<_, std::io::Error>(SocketAddr::from(([127, 0, 0, 1], http::free_port()?)));
        Ok(Self { tls: addr()?, h2c: addr()? })
    }
}

/// Where one instance lives.
struct Site<'a> {
    dir: &'a Path,
    port: u16,
    upstream: SocketAddr,
    core: usize,
    protocols: Option<(&'a Protocols, Ports)>,
}

impl Site<'_> {
    fn write(&self, name: &str, template: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        let mut text = template
            .replace("@DIR@", &self.dir.to_string_lossy())
            .replace("@PORT@", &self.port.to_string())
            .replace("@CORE@", &self.core.to_string())
            .replace("@UPSTREAM_HOST@", &self.upstream.ip().to_string())
            .replace("@UPSTREAM_PORT@", &self.upstream.port().to_string())
            .replace("@UPSTREAM@", &self.upstream.to_string());
        if let Some((protocols, ports)) = self.protocols {
            text = text
                .replace("@TLS_PORT@", &ports.tls.port().to_string())
                .replace("@H2C_PORT@", &ports.h2c.port().to_string())
                .replace("@GRPC_UPSTREAM_HOST@", &protocols.grpc.ip().to_string())
                .replace("@GRPC_UPSTREAM_PORT@", &protocols.grpc.port().to_string())
                .replace("@GRPC_UPSTREAM@", &protocols.grpc.to_string())
                .replace("@CERT@", &protocols.cert.replace('\n', "\\n"))
                .replace("@KEY@", &protocols.key.replace('\n', "\\n"));
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Puts certificate and key where the peers read them.
    fn write_certificate(&self) -> Result<()> {
        if let Some((Protocols { cert, key, .. }, _)) = self.protocols {
            fs::write(self.dir.join("cert.pem"), cert)?;
            fs::write(self.dir.join("key.pem"), key)?;
            fs::write(self.dir.join("both.pem"), [cert.as_str(), key].concat())?;
        }
        Ok(())
    }
}

/// A contender that runs and has been seen to forward to the upstream.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) contender: Contender,
    pub(crate) running: Running,
    pub(crate) addr: SocketAddr,
    /// With [`Protocols`] only.
    pub(crate) ports: Option<Ports>,
    /// Removed when the contender has ended: fields are dropped in this order.
    _dir: tempfile::TempDir,
}

/// Starts `contender` on `core` in front of `upstream`, for plain HTTP/1.1 or for all protocols,
/// and checks that it answers HTTP/1.1 correctly.
pub(crate) fn start(
    contender: Contender,
    programs: &Programs,
    upstream: SocketAddr,
    core: usize,
    protocols: Option<&Protocols>,
) -> Result<Started> {
    let mut attempt = 1;
    loop {
        match start_once(contender, programs, upstream, core, protocols) {
            Ok(started) => return Ok(started),
            Err(error) if attempt == START_ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

fn start_once(
    contender: Contender,
    programs: &Programs,
    upstream: SocketAddr,
    core: usize,
    protocols: Option<&Protocols>,
) -> Result<Started> {
    let dir = crate::child::scratch()?;
    let port = http::free_port()?;
    let ports = protocols.map(|_| Ports::free()).transpose()?;
    let site = Site { dir: dir.path(), port, upstream, core, protocols: protocols.zip(ports) };
    site.write_certificate()?;
    let command = contender.command(programs, &site)?;
    let running = Running::start(command, &[core], &dir.path().join("output.txt"))?;
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let mut started = Started { contender, running, addr, ports, _dir: dir };
    await_answer(&mut started)?;
    http::check_forwarding(addr)
        .with_context(|| format!("{} does not forward correctly", contender.name()))?;
    Ok(started)
}

fn await_answer(started: &mut Started) -> Result<()> {
    let name = started.contender.name();
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let error = match http::check_body(started.addr, 1024) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if let Some(status) = started.running.ended() {
            bail!("{name} ended at once ({status}):\n{}", tail(&started.running.printed()));
        }
        if Instant::now() >= deadline {
            bail!("{name} does not answer: {error:#}\n{}", tail(&started.running.printed()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// The upstream all contenders forward to.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    running: Running,
    _dir: tempfile::TempDir,
}

impl Upstream {
    pub(crate) fn pid(&self) -> u32 {
        self.running.group().0
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.running.ended().is_none()
    }

    /// Starts the upstream on the load cores.
    pub(crate) fn start(programs: &Programs, cores: &[usize]) -> Result<Self> {
        let upstream = Self::start_program(programs.upstream()?, cores)?;
        http::check_forwarding(upstream.addr).context("the upstream does not answer correctly")?;
        Ok(upstream)
    }

    /// Starts a program that takes `--listen` and says what it listens on.
    pub(crate) fn start_program(program: &Path, cores: &[usize]) -> Result<Self> {
        let dir = crate::child::scratch()?;
        let mut command = Command::new(program);
        // At every address of this machine: to balancers each is a node.
        command.args(["--listen", "0.0.0.0:0"]);
        let mut running = Running::start(command, cores, &dir.path().join("output.txt"))?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let printed = running.printed();
            if let Some(addr) = printed.strip_prefix("listening on ").and_then(|rest| {
                rest.split_once('\n').and_then(|(addr, _)| addr.parse::<SocketAddr>().ok())
            }) {
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port()));
                return Ok(Self { addr, running, _dir: dir });
            }
            if running.ended().is_some() || Instant::now() >= deadline {
                bail!("the upstream does not start: {}", tail(&printed));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_leave_no_placeholder() {
        let dir = crate::child::scratch().expect("a directory");
        let upstream = SocketAddr::from(([127, 0, 0, 1], 4242));
        let mut site = Site { dir: dir.path(), port: 4243, upstream, core: 5, protocols: None };
        write_all(&site);
        let config = fs::read_to_string(dir.path().join("haproxy.cfg")).expect("a text");
        assert!(config.contains("bind 127.0.0.1:4243 "));
        assert!(config.contains("server demo 127.0.0.1:4242 "));

        let protocols = Protocols { grpc: upstream, cert: "A\nB\n".into(), key: "C\nD\n".into() };
        site.protocols = Some((&protocols, Ports { tls: upstream, h2c: upstream }));
        write_all(&site);
        let config = fs::read_to_string(dir.path().join("apisix.yaml")).expect("a text");
        assert!(config.contains("cert: \"A\\nB\\n\"\n"));
    }

    /// Writes what all contenders read, and looks for what was not replaced.
    fn write_all(site: &Site<'_>) {
        let programs = Programs::all_named("program");
        for &contender in Contender::value_variants() {
            contender.command(&programs, site).expect("a command");
        }
        for entry in fs::read_dir(site.dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("a text");
            let left = text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'))
                .find(|line| line.matches('@').count() > 1);
            assert_eq!(left, None, "{}", path.display());
        }
    }
}
