//! The embedded store, killed in the middle of its work: nothing that was acknowledged is lost, and
//! nothing is half done.
//!
//! The test starts itself as a child, which writes and says on its standard output what has been
//! acknowledged. It is killed at a random moment, and the store is looked at.

#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use osmia_config_sync::local::Entry;
use osmia_config_sync::store::embedded::EmbeddedStore;
use osmia_config_sync::store::{Author, Contents, Item, Op, Outcome, Store, Transaction};

const ROUNDS: u64 = 200;
/// A new store is made for every so many rounds, so that its creation is cut short as well.
const ROUNDS_PER_STORE: u64 = 10;
/// Writers of each kind in the child.
const WRITERS: u64 = 3;
/// Keys that a writer of single puts goes round.
const SLOTS: u64 = 20;
/// Keys of each transaction.
const WIDTH: u64 = 6;
/// Set in the child: the folder of the store.
const FOLDER: &str = "OSMIA_CRASH_FOLDER";
/// Set it to repeat a failure.
const SEED: &str = "OSMIA_CRASH_SEED";

/// What a writer is named by: its kind (`s`ingle, `t`ransaction) and number.
type Writer = (char, u64);

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn put(path: String, version: u64) -> Op {
    // Some values have pages of their own in the database.
    let value = format!("{{\"version\":{version},\"fill\":\"{}\"}}", "x".repeat(fill(version)));
    Op::Put { path, value: Bytes::from(value), ttl: None }
}

fn fill(version: u64) -> usize {
    if version.is_multiple_of(7) { 9000 } else { 200 }
}

fn version(item: &Item) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(&item.value).unwrap();
    assert_eq!(value["fill"].as_str().unwrap().len(), fill(value["version"].as_u64().unwrap()));
    value["version"].as_u64().unwrap()
}

fn single_path(number: u64, version: u64) -> String {
    format!("single/{number}/{:02}", version % SLOTS)
}

/// Keys of a transaction that exist after this version: odd ones delete some, even ones write all.
fn width(version: u64) -> u64 {
    if version.is_multiple_of(2) { WIDTH } else { WIDTH / 2 }
}

fn ops(writer: Writer, version: u64) -> Vec<Op> {
    let (kind, number) = writer;
    if kind == 's' {
        return vec![put(single_path(number, version), version)];
    }
    let path = |key| format!("together/{number}/{key}");
    let written = (0..width(version)).map(|key| put(path(key), version));
    let deleted = (width(version)..WIDTH).map(|key| Op::Delete { path: path(key) });
    written.chain(deleted).collect()
}

/// The highest version of each writer that the contents have, after checking that each writer's
/// keys belong together.
fn versions(contents: &Contents) -> BTreeMap<Writer, u64> {
    let mut found: BTreeMap<Writer, u64> = BTreeMap::new();
    let mut widths: BTreeMap<u64, u64> = BTreeMap::new();
    for item in &contents.items {
        let mut parts = item.path.split('/');
        let kind = parts.next().unwrap().chars().next().unwrap();
        let number: u64 = parts.next().unwrap().parse().unwrap();
        let version = version(item);
        let highest = found.entry((kind, number)).or_insert(version);
        if kind == 's' {
            assert_eq!(item.path, single_path(number, version));
            *highest = version.max(*highest);
        } else {
            assert_eq!(*highest, version, "half a transaction: {}", item.path);
            *widths.entry(number).or_default() += 1;
        }
    }
    for (number, found_width) in widths {
        assert_eq!(found_width, width(found[&('t', number)]), "half a transaction of {number}");
    }
    for ((kind, number), highest) in &found {
        if *kind == 's' {
            // A writer goes on only when it has been answered: none of its keys may be older.
            for version in highest.saturating_sub(SLOTS - 1).max(1)..=*highest {
                let path = single_path(*number, version);
                let item = contents.items.iter().find(|item| item.path == path).unwrap();
                assert_eq!(self::version(item), version, "an older write is missing: {path}");
            }
        }
    }
    found
}

/// The child: goes on from what it finds until it is killed.
#[test]
fn child() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, _) = EmbeddedStore::open(Path::new(&folder), 10_000).unwrap();
        let store = Arc::new(store);
        let begun = versions(&store.list("").await.unwrap());
        let mut writers = Vec::new();
        for writer in (0..WRITERS).flat_map(|number| [('s', number), ('t', number)]) {
            let first = begun.get(&writer).map_or(1, |last| last + 1);
            writers.push(tokio::spawn(write(Arc::clone(&store), writer, first)));
        }
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write(store: Arc<EmbeddedStore>, writer: Writer, first: u64) {
    for version in first.. {
        let author = Author { name: format!("{version}"), address: String::new() };
        let transaction = Transaction { guards: Vec::new(), ops: ops(writer, version), author };
        let outcome = store.commit(transaction).await.unwrap();
        let Outcome::Committed { revision, .. } = outcome else { unreachable!("no guards") };
        // One write, so that a line is there as a whole or not at all.
        let line = format!("acknowledged {} {} {version} {revision}\n", writer.0, writer.1);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

fn start(folder: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the child said.
#[derive(Default)]
struct Acknowledged {
    versions: BTreeMap<Writer, u64>,
    revision: u64,
    count: usize,
}

impl Acknowledged {
    fn take(&mut self, line: &str) {
        let Some((_, words)) = line.split_once("acknowledged ") else { return };
        let words: Vec<&str> = words.split(' ').collect();
        let [kind, number, version, revision] = words[..] else { return };
        let writer = (kind.chars().next().unwrap(), number.parse().unwrap());
        let version = version.parse().unwrap();
        if let Some(before) = self.versions.insert(writer, version) {
            assert_eq!(version, before + 1);
        }
        let revision: u64 = revision.parse().unwrap();
        self.revision = self.revision.max(revision);
        self.count += 1;
    }
}

/// Lets a child work on the store until a random moment.
fn round(folder: &Path, random: &mut Random) -> Acknowledged {
    let mut child = start(folder);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let mut acknowledged = Acknowledged::default();
    // Most are killed while they write, some while they open or create the file.
    let count = random.below(60) as usize;
    let delay =
        Duration::from_micros(if count < 6 { random.below(20_000) } else { random.below(2_000) });
    if count >= 6 {
        while acknowledged.count < count {
            let line = lines.next().unwrap().unwrap();
            acknowledged.take(&String::from_utf8(line).unwrap());
        }
    }
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        acknowledged.take(&String::from_utf8(line.unwrap()).unwrap());
    }
    acknowledged
}

/// Opens what the child left behind and checks it. Returns its versions and revision.
async fn look(folder: &Path) -> (BTreeMap<Writer, u64>, u64) {
    let (store, _) = EmbeddedStore::open(folder, 10_000).unwrap();
    let contents = store.list("").await.unwrap();
    let history = store.journal().unwrap().since(0).unwrap();
    assert_eq!(replay(&history), contents, "the journal and the contents disagree");
    (versions(&contents), contents.revision)
}

/// The contents that the journal tells of.
fn replay(history: &[Entry]) -> Contents {
    let mut contents = Contents::default();
    let mut items: BTreeMap<&str, Item> = BTreeMap::new();
    for entry in history {
        assert_eq!(entry.revision, contents.revision + 1, "a gap in the journal");
        contents.revision = entry.revision;
        for change in &entry.changes {
            let before = items.remove(change.path.as_str());
            assert_eq!(before.as_ref().map(|item| &item.value), change.before.as_ref());
            let Some(value) = change.after.clone() else { continue };
            let created = before.map_or(entry.revision, |before| before.created);
            let path = change.path.clone();
            let item = Item { path, value, created, modified: entry.revision };
            items.insert(&change.path, item);
        }
    }
    contents.items = items.into_values().collect();
    contents
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    let seed = env::var(SEED)
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    eprintln!("repeat with {SEED}={seed}"); // shown when the test fails
    let mut random = Random(seed);
    let mut acknowledged_in_all = 0;
    for _ in 0..ROUNDS / ROUNDS_PER_STORE {
        let folder = tempfile::tempdir().unwrap();
        let mut before = (BTreeMap::new(), 0);
        for _ in 0..ROUNDS_PER_STORE {
            let acknowledged = round(folder.path(), &mut random);
            let after = look(folder.path()).await;
            assert!(after.1 >= acknowledged.revision.max(before.1), "the revision went back");
            for writer in (0..WRITERS).flat_map(|number| [('s', number), ('t', number)]) {
                let known = before.0.get(&writer).copied().unwrap_or(0);
                let sure = acknowledged.versions.get(&writer).copied().unwrap_or(known);
                let found = after.0.get(&writer).copied().unwrap_or(0);
                // The one that was under way may have been made or not.
                assert!(found == sure || found == sure + 1, "{writer:?}: {found}, not {sure}");
            }
            acknowledged_in_all += acknowledged.count;
            before = after;
        }
    }
    assert!(acknowledged_in_all as u64 > ROUNDS, "the children hardly wrote");
}
