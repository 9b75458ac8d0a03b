//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use osmia_config_sync::settings::{self, Loaded, Overrides};

use crate::boot;
use crate::config_cli::{self, ConfigArgs, ExplainArgs};

/// Where `start` and `check` look for a configuration when none is named.
const DEFAULT_CONFIG: &str = "conf/config.yaml";

/// An API gateway that speaks Apache APISIX's language: one `io_uring` event loop per core.
#[derive(Debug, Parser)]
#[command(name = "osmia", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground.
    ///
    /// Signals: TERM and INT stop at once, QUIT drains (finish what was accepted, then stop), HUP
    /// reads the route file again, USR1 reopens the access log.
    Start(Options),
    /// Read the configuration and the routes, report every problem, and exit: 0 if `start` would
    /// accept them, else 1.
    Check(Options),
    /// Dump, compare, apply and roll back the configuration of a running gateway.
    Config(ConfigArgs),
    /// Say what a running gateway would do with a request, and why.
    ///
    /// Lists the routes in the order in which they are tried, each with the first condition that
    /// fails and the value it saw, then the plugins with where they come from, and the upstream
    /// with how its nodes stand. Exit code 0: a route matches, 1: none does, 2: failed.
    Explain(ExplainArgs),
    /// Print the version.
    Version,
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Configuration file in the layout of APISIX's config.yaml [default: conf/config.yaml if it
    /// exists, else the built-in defaults with a demo route]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Number of workers: a number, or `auto` for one per core. Overrides
    /// `nginx_config.worker_processes`
    #[arg(short, long, value_name = "N|auto", value_parser = parse_workers)]
    workers: Option<WorkerCount>,

    /// Cores to pin workers to, for example `0-3,6`. Overrides osmia.cores
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    cores: Option<CoreList>,
}

#[derive(Debug, Clone, Copy)]
struct WorkerCount(Option<usize>);

fn parse_workers(text: &str) -> Result<WorkerCount, String> {
    match text {
        "auto" => Ok(WorkerCount(None)),
        _ => match text.parse() {
            Ok(count) if (1..=1024).contains(&count) => Ok(WorkerCount(Some(count))),
            _ => Err("expected a number from 1 to 1024, or auto".to_owned()),
        },
    }
}

#[derive(Debug, Clone)]
struct CoreList(Vec<usize>);

fn parse_cores(text: &str) -> Result<CoreList, String> {
    settings::parse_cores(text).map(CoreList).map_err(|error| error.to_string())
}

impl Options {
    fn load(&self) -> Result<Loaded, settings::SettingsError> {
        let overrides = Overrides {
            workers: self.workers.map(|count| count.0),
            cores: self.cores.clone().map(|list| list.0),
            driver: None,
        };
        let default = Path::new(DEFAULT_CONFIG);
        let path = self.config.as_deref().or_else(|| default.exists().then_some(default));
        settings::load(path, &overrides)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Connections come and go one by one: with huge pages, what they leave behind is not given back
    // (measured: 3.2 instead of 1.3 KiB per idle connection, 8 MiB more at rest).
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let result = match Cli::parse().command {
        Command::Version => {
            println!("osmia {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Check(options) => check(&options),
        Command::Config(args) => return config_cli::run(&args),
        Command::Explain(args) => return config_cli::run_explain(&args),
        Command::Start(options) => start(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("osmia: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> anyhow::Result<()> {
    let loaded = options.load()?;
    boot::start(loaded)
}

fn check(options: &Options) -> anyhow::Result<()> {
    let loaded = options.load()?;
    for warning in &loaded.warnings {
        eprintln!("osmia: warning: {warning}");
    }
    for warning in boot::check(&loaded.settings)? {
        eprintln!("osmia: warning: {warning}");
    }
    println!("osmia: the configuration is valid");
    Ok(())
}
