//! Instruction counts of the request path, held against committed ones.
//!
//! Unlike times, they do not depend on how busy the machine is: a change of a few per cent is a
//! change of the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::child::{self, Running};
use crate::machine::Cores;
use crate::programs;

/// Growth beyond this share fails the check.
const TOLERANCE: f64 = 0.03;
/// One scenario takes a few seconds.
const LIMIT: Duration = Duration::from_mins(5);

/// Options of `osmia-bench instructions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Fail when a count has grown by more than 3 % over the committed baseline.
    #[arg(long)]
    check: bool,
    /// Make the present counts the baseline: commit it with the change that explains it.
    #[arg(long, conflicts_with = "check")]
    bless: bool,
    /// Count only scenarios whose name contains this.
    #[arg(long, conflicts_with = "bless")]
    only: Option<String>,
}

/// The committed file.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// What counted: another compiler counts otherwise.
    tools: String,
    /// Instructions per iteration.
    instructions: BTreeMap<String, f64>,
}

/// Builds the scenarios, counts, and compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    child::clean_up_on_signals()?;
    let valgrind = programs::in_path("valgrind")
        .context("valgrind is not installed: `apt-get install valgrind`")?;
    let program = build()?;
    let path = programs::instruction_baseline();
    let baseline = load(&path, options.bless)?;
    let scratch = child::scratch()?;
    let out = scratch.path().join("callgrind.out");
    let counter = Counter { valgrind, program, out, cores: Cores::choose(None)?.load };
    let (iterations, mut names) = counter.scenarios()?;
    names.retain(|name| options.only.as_ref().is_none_or(|part| name.contains(part)));
    let mut counts = BTreeMap::new();
    println!("{:<24} {:>10} {:>10} {:>8}", "instructions per", "now", "baseline", "change");
    for name in names {
        let count = counter.count(&name)? as f64 / f64::from(iterations);
        println!("{}", line(&name, count, baseline.instructions.get(&name).copied()));
        counts.insert(name, count);
    }
    if options.bless {
        let text = render(&tools(&counter.valgrind), &counts);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("saved as {}", path.display());
        return Ok(());
    }
    let complaints = compare(&counts, &baseline.instructions, options.only.is_none());
    if options.check && !complaints.is_empty() {
        let now = tools(&counter.valgrind);
        bail!("{}", explain(&complaints, &baseline.tools, &now));
    }
    Ok(())
}

fn explain(complaints: &[String], then: &str, now: &str) -> String {
    let mut text = complaints.join("\n");
    text += "\nMake it cheaper, or commit the new counts with the change that needs them: \
             `osmia-bench instructions --bless`.";
    if then != now {
        let _ = write!(text, "\nThe baseline was counted with {then}, this with {now}.");
    }
    text
}

fn line(name: &str, count: f64, before: Option<f64>) -> String {
    let Some(before) = before else {
        return format!("{name:<24} {count:>10.1} {:>10} {:>8}", "-", "new");
    };
    let change = (count / before - 1.0) * 100.0;
    format!("{name:<24} {count:>10.1} {before:>10.1} {change:>+7.1}%")
}

/// What keeps the check from passing.
fn compare(
    counts: &BTreeMap<String, f64>,
    baseline: &BTreeMap<String, f64>,
    complete: bool,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, &count) in counts {
        match baseline.get(name) {
            None => complaints.push(format!("{name} is not in the baseline")),
            Some(&before) if count > before * (1.0 + TOLERANCE) => complaints.push(format!(
                "{name} needs {count:.1} instructions, {:.1} % more than the {before:.1} of the \
                 baseline",
                (count / before - 1.0) * 100.0
            )),
            Some(_) => {}
        }
    }
    let gone = baseline.keys().filter(|name| complete && !counts.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name} is in the baseline and nowhere else")));
    complaints
}

fn load(path: &Path, may_be_missing: bool) -> Result<Baseline> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("cannot use {}", path.display())),
        Err(_) if may_be_missing => Ok(Baseline::default()),
        Err(error) => Err(error).with_context(|| {
            format!("cannot read {}: make it with `instructions --bless`", path.display())
        }),
    }
}

fn render(tools: &str, counts: &BTreeMap<String, f64>) -> String {
    let mut text = String::from(
        "# Instructions per iteration of each scenario in bench/icount, counted by callgrind.\n\
         # Written by `osmia-bench instructions --bless`; `make test` fails when one grows by more \
         than 3 %.\n",
    );
    let _ = writeln!(text, "tools = {tools:?}\n\n[instructions]");
    for (name, count) in counts {
        let _ = writeln!(text, "{name} = {count:.1}");
    }
    text
}

/// Compiler and counter: what else a count depends on.
fn tools(valgrind: &Path) -> String {
    let rustc = programs::first_line(Command::new("rustc").arg("--version"));
    let valgrind = programs::first_line(Command::new(valgrind).arg("--version"));
    format!("{rustc}, {valgrind}")
}

/// Builds the program that holds the scenarios; its path.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // A test among the targets, so that the dependencies have the features that the tests had
        // them built with, and are not built again.
        .args(["build", "--workspace", "--bin", "osmia-icount", "--test", "tidy", "--config"])
        .arg(programs::manifest().with_file_name("icount/profile.toml"))
        .env("CARGO_INCREMENTAL", "0")
        .args(["--message-format", "json-render-diagnostics", "--manifest-path"])
        .arg(programs::manifest())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the scenarios do not build");
    executable(&String::from_utf8_lossy(&output.stdout)).context("cargo names no executable")
}

/// The executable of the program that holds the scenarios.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "osmia-icount")
        .find_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
}

struct Counter {
    valgrind: PathBuf,
    program: PathBuf,
    out: PathBuf,
    cores: Vec<usize>,
}

impl Counter {
    /// Iterations per run, and the names of the scenarios.
    fn scenarios(&self) -> Result<(u32, Vec<String>)> {
        let output = Command::new(&self.program).arg("list").output()?;
        let text = String::from_utf8(output.stdout)?;
        let (first, names) = text.split_once('\n').context("no scenarios")?;
        let iterations = first.strip_prefix("iterations ").context("no number of iterations")?;
        Ok((iterations.parse()?, names.lines().map(str::to_owned).collect()))
    }

    /// Instructions of one run.
    fn count(&self, scenario: &str) -> Result<u64> {
        let mut command = Command::new(&self.valgrind);
        command.args(["--tool=callgrind", "--collect-atstart=no"]);
        command.arg("--toggle-collect=osmia_icount_measured");
        command.arg(format!("--callgrind-out-file={}", self.out.display()));
        command.arg(&self.program).arg(scenario);
        let mut running = Running::start(command, &self.cores, &self.out.with_extension("txt"))?;
        let status = running.wait(LIMIT).with_context(|| format!("{scenario} does not end"))?;
        ensure!(
            status.success(),
            "{scenario} failed under valgrind ({status}):\n{}",
            running.printed()
        );
        let profile = fs::read_to_string(&self.out).context("callgrind wrote no profile")?;
        let count = total(&profile).context("callgrind's profile has no total")?;
        ensure!(count > 0, "callgrind did not see osmia_icount_measured");
        Ok(count)
    }
}

fn total(profile: &str) -> Option<u64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn growth_beyond_the_tolerance_is_a_complaint() {
        let baseline = counts(&[("a", 100.0), ("b", 100.0), ("c", 100.0)]);
        let now = counts(&[("a", 102.9), ("b", 103.1), ("c", 50.0)]);
        let complaints = compare(&now, &baseline, true);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("b needs 103.1 instructions, 3.1 % more"));
    }

    #[test]
    fn scenarios_and_baseline_have_to_match() {
        let (old, new) = (counts(&[("old", 1.0)]), counts(&[("new", 1.0)]));
        assert_eq!(compare(&new, &old, true).len(), 2);
        assert_eq!(compare(&new, &old, false), ["new is not in the baseline"]);
    }

    #[test]
    fn the_baseline_reads_as_it_was_written() {
        let counts = counts(&[("request-parse-small", 812.0), ("path-odd", 99.5)]);
        let baseline: Baseline = toml::from_str(&render("a \"b\"", &counts)).expect("valid TOML");
        assert_eq!(baseline, Baseline { tools: "a \"b\"".into(), instructions: counts });
    }

    #[test]
    fn totals_and_executables_are_found() {
        assert_eq!(total("events: Ir\nfn=x\n1 2\ntotals: 4711\n"), Some(4711));
        assert_eq!(total("events: Ir\n"), None);
        let artifact = |name: &str, executable: &str| {
            let executable =
                serde_json::json!({"target": {"name": name}, "executable": executable});
            executable.to_string() + "\n"
        };
        let messages = "{\"executable\":null}\n".to_owned()
            + &artifact("osmia-icount", "/a/b")
            + &artifact("tidy", "/c/d")
            + "{\"reason\":\"build-finished\",\"success\":true}";
        assert_eq!(executable(&messages), Some(PathBuf::from("/a/b")));
    }
}
