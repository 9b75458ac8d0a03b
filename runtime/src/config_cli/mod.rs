//! `osmia config`: dump, compare, apply and roll back the configuration of a running gateway,
//! through its Admin API; `osmia explain`.

mod client;
mod difference;
mod document;
mod explain;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use client::{Client, Refused};
pub use explain::ExplainArgs;

/// The exit code of `diff` when something differs, as that of diff(1).
const DIFFERENT: u8 = 1;
/// The exit code of anything that could not be done.
const FAILED: u8 = 2;

/// Arguments of `osmia config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    command: Command,
}

/// Which gateway, and how to get in.
#[derive(Debug, Args)]
pub struct Server {
    /// The Admin API
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:9180")]
    admin: String,

    /// Admin key [default: `$OSMIA_ADMIN_KEY`, else the generated key in the data directory]
    #[arg(long, global = true, value_name = "KEY")]
    key: Option<String>,

    /// Directory with the generated key (`osmia.data_dir`)
    #[arg(long, global = true, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,

    /// Trust certificates signed by this authority (PEM), for https
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Certificate (PEM) to show to an Admin API that asks for one
    #[arg(long, global = true, value_name = "FILE", requires = "cert_key")]
    cert: Option<PathBuf>,

    /// Key (PEM) of --cert
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write all resources in the layout of apisix.yaml.
    ///
    /// Private keys of certificates are not part of it: the Admin API never shows them. When the
    /// dump is applied again to the same gateway, it keeps those that it has.
    Dump {
        /// Format
        #[arg(long, value_enum, default_value = "yaml")]
        format: Format,
        /// Write here instead of to standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Compare a file with what is stored. Exit code 0: the same, 1: different, 2: failed
    Diff {
        /// File in the layout of apisix.yaml, or .json
        file: PathBuf,
    },
    /// Store the resources of a file, all of them or none.
    Apply {
        /// File in the layout of apisix.yaml, or .json
        file: PathBuf,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Delete what is stored but not in the file
        #[arg(long)]
        prune: bool,
        /// Refuse when anything has changed after this revision
        #[arg(long, value_name = "REVISION")]
        expect_revision: Option<u64>,
    },
    /// Go back to what was stored at a revision.
    Rollback {
        /// The revision, as `history` lists them
        revision: u64,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// List who changed what and when, or show one revision.
    History {
        /// Show what this revision changed
        revision: Option<u64>,
        /// Most entries
        #[arg(long, default_value_t = 20, conflicts_with = "revision")]
        limit: u32,
        /// Only revisions before this one
        #[arg(long, value_name = "REVISION", conflicts_with = "revision")]
        before: Option<u64>,
        /// Only what touches this resource, such as routes/1
        #[arg(long, value_name = "KEY", conflicts_with = "revision")]
        resource: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// Runs the command. Messages about failures go to standard error.
pub fn run(args: &ConfigArgs) -> ExitCode {
    told(args.run())
}

/// Runs `osmia explain`.
pub fn run_explain(args: &ExplainArgs) -> ExitCode {
    told(args.run())
}

fn told(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("osmia: {error:#}");
            if let Some(refused) = error.downcast_ref::<Refused>() {
                refused.problems.iter().for_each(|problem| eprintln!("  {problem}"));
            }
            ExitCode::from(FAILED)
        }
    }
}

impl ConfigArgs {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let client = self.server.client()?;
        match &self.command {
            Command::Dump { format, output } => dump(&client, *format, output.as_ref())?,
            Command::Diff { file } => return diff(&client, file),
            Command::Apply { file, dry_run, prune, expect_revision } => {
                let mut request = document::transaction(file)?;
                request["dry_run"] = (*dry_run).into();
                request["replace"] = (*prune).into();
                request["expect_revision"] = (*expect_revision).into();
                let done = client.post("transaction", &request)?;
                print!("{}", report::done(&done));
            }
            Command::Rollback { revision, dry_run } => {
                let request = json!({ "revision": revision, "dry_run": dry_run });
                let done = client.post("rollback", &request)?;
                print!("{}", report::done(&done));
            }
            Command::History { revision: Some(revision), .. } => {
                let entry = client.get(&format!("history/{revision}"))?;
                print!("{}", report::entry(&entry));
            }
            Command::History { revision: None, limit, before, resource } => {
                let mut path = format!("history?limit={limit}");
                if let Some(before) = before {
                    path = format!("{path}&before={before}");
                }
                if let Some(resource) = resource {
                    path = format!("{path}&key={}", client::encoded(resource));
                }
                print!("{}", report::history(&client.get(&path)?));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Server {
    fn client(&self) -> anyhow::Result<Client> {
        let key = match self.key.clone().or_else(|| std::env::var("OSMIA_ADMIN_KEY").ok()) {
            Some(key) => Some(key),
            None => self.generated_key()?,
        };
        let identity = self.cert.as_deref().zip(self.cert_key.as_deref());
        Client::new(&self.admin, key, self.ca.as_deref(), identity)
    }

    /// The key that the gateway has made for itself. There may be none, nor a need for one.
    fn generated_key(&self) -> anyhow::Result<Option<String>> {
        let path = self.data_dir.join("admin.key");
        match std::fs::read_to_string(&path) {
            Ok(key) => Ok(Some(key.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let context = format!("cannot read the admin key from {}", path.display());
                Err(anyhow::Error::new(error).context(context))
            }
        }
    }
}

fn dump(client: &Client, format: Format, output: Option<&PathBuf>) -> anyhow::Result<()> {
    let items = client.export()?.items;
    let text = match format {
        Format::Yaml => document::yaml(&items)?,
        Format::Json => document::json(&items)?,
    };
    match output {
        None => print!("{text}"),
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write {}", path.display()))?,
    }
    Ok(())
}

/// The server says what differs, since it knows what counts; both texts show how.
fn diff(client: &Client, file: &std::path::Path) -> anyhow::Result<ExitCode> {
    let stored = client.export()?;
    let mut request = document::transaction(file)?;
    let given = document::values(&request);
    request["dry_run"] = true.into();
    request["replace"] = true.into();
    let done = client.post("transaction", &request)?;
    if done["revision"].as_u64() != Some(stored.revision) {
        bail!("the configuration was changed meanwhile; try again");
    }
    let stored_values = stored.items.iter().map(|item| (item.key.as_str(), &item.value)).collect();
    let text = difference::text(&done, &stored_values, &given);
    if text.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("--- stored, revision {}\n+++ {}", stored.revision, file.display());
    print!("{text}");
    Ok(ExitCode::from(DIFFERENT))
}

/// A list of texts in an answer.
fn texts<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    answer[name].as_array().into_iter().flatten().filter_map(Value::as_str)
}
