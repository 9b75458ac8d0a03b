//! Where the processor time of a contender goes: perf while it is under load.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::child::{self, Running};
use crate::contender::{self, Contender, Started, Upstream};
use crate::machine::{self, Cores};
use crate::plan::{Size, seconds};
use crate::programs::{self, Programs};
use crate::wrk::Load;

/// Samples per second and core: odd, so that it does not keep step with timers.
const FREQUENCY: &str = "999";
/// Bytes of stack that are kept per sample for unwinding: release builds have no frame pointers.
const STACK: &str = "dwarf,16384";
const WARM_UP_SECONDS: u64 = 1;

/// Options of `osmia-bench profile`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Whom to profile.
    #[arg(long, default_value = "osmia")]
    contender: Contender,
    /// Response body size.
    #[arg(long, default_value = "1k")]
    body: Size,
    /// Client connections.
    #[arg(long, default_value_t = 64)]
    conns: usize,
    /// How long to sample.
    #[arg(long, value_parser = seconds, default_value = "5s")]
    duration: u64,
    /// The Osmia binary; by default the one beside this program.
    #[arg(long)]
    osmia: Option<PathBuf>,
    /// The program that draws (example `osmia-flame` of this crate).
    #[arg(long)]
    flame: PathBuf,
    /// The picture.
    #[arg(long, default_value = "perf/flamegraph.svg")]
    out: PathBuf,
}

/// Starts the contender, loads it, samples it, draws.
pub(crate) fn run(options: &Options) -> Result<()> {
    child::clean_up_on_signals()?;
    machine::raise_descriptor_limit();
    let perf =
        programs::in_path("perf").context("perf is not installed: `apt-get install linux-perf`")?;
    let programs = Programs::find(options.osmia.as_deref(), None);
    let cores = Cores::choose(None)?;
    machine::pin(&cores.load)?;
    let upstream = Upstream::start(&programs, &cores.load)?;
    let started = contender::start(options.contender, &programs, upstream.addr, cores.proxy, None)?;
    let scratch = child::scratch()?;
    let samples = scratch.path().join("perf.data");
    record(options, &programs, &cores, &perf, &started, &samples)?;
    drop(started);
    draw(options, &perf, &samples)?;
    println!("saved as {}", options.out.display());
    Ok(())
}

fn record(
    options: &Options,
    programs: &Programs,
    cores: &Cores,
    perf: &Path,
    started: &Started,
    samples: &Path,
) -> Result<()> {
    let mut load = Load {
        wrk: programs.wrk()?,
        cores: &cores.load,
        addr: started.addr,
        tls: None,
        body: options.body.0,
        connections: options.conns,
        seconds: WARM_UP_SECONDS,
    };
    load.run()?;
    let (event, _) = event(perf);
    println!("sampling {} for {} s with {event}", started.contender.name(), options.duration);
    let mut command = Command::new(perf);
    command.args(["record", "-F", FREQUENCY, "-e", event, "--call-graph", STACK, "-o"]);
    command.arg(samples);
    let pids: Vec<String> = started.running.group().pids().iter().map(u32::to_string).collect();
    command.args(["--pid", &pids.join(","), "--", "sleep", &options.duration.to_string()]);
    let output = samples.with_extension("txt");
    let mut recorder = Running::start(command, &cores.load, &output)?;
    // Load during the whole of the recording.
    load.seconds = options.duration + 1;
    let outcome = load.run()?;
    let status = recorder.wait(Duration::from_mins(1)).context("perf does not end")?;
    ensure!(status.success(), "perf failed ({status}):\n{}", recorder.printed());
    println!("{} requests/s while sampling", outcome.requests * 1_000_000 / outcome.duration_us);
    Ok(())
}

/// The event to sample, and the unit its samples are weighted with. Virtual machines often have no
/// hardware counters.
fn event(perf: &Path) -> (&'static str, &'static str) {
    let counted = Command::new(perf).args(["stat", "-x,", "-e", "cycles", "true"]).output();
    let supported = counted.is_ok_and(|output| {
        output.status.success()
            && !String::from_utf8_lossy(&output.stderr).contains("not supported")
    });
    if supported { ("cycles", "cycles") } else { ("cpu-clock", "ns") }
}

fn draw(options: &Options, perf: &Path, samples: &Path) -> Result<()> {
    if let Some(directory) = options.out.parent() {
        fs::create_dir_all(directory)?;
    }
    let picture = File::create(&options.out)
        .with_context(|| format!("cannot write {}", options.out.display()))?;
    let mut script = Command::new(perf)
        .args(["script", "--no-inline", "-i"])
        .arg(samples)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stacks = script.stdout.take().context("perf script has no output")?;
    let title = format!(
        "{}: {} bodies, {} connections",
        options.contender.name(),
        options.body,
        options.conns
    );
    let status = Command::new(&options.flame)
        .arg(title)
        .arg(event(perf).1)
        .stdin(stacks)
        .stdout(picture)
        .status()
        .with_context(|| format!("cannot run {}", options.flame.display()))?;
    let script = script.wait()?;
    ensure!(script.success() && status.success(), "the flamegraph could not be drawn");
    Ok(())
}
