//! Style is a test: what a reader of this project may rely on, checked in its sources.

#![allow(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test of this tree, whose names are known"
)]

use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS: usize = 100;
/// Lines of a file, its unit tests not counted.
const FILE_LINES: usize = 600;
/// Lines of a function. Lower it when the longest has become shorter; never raise it.
const FUNCTION_LINES: usize = 70;
/// Files whose length is settled for now, with the length they may have.
const LONG_FILES: [(&str, usize); 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All Rust sources of the workspace, relative to its root, with their text.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["core", "config-sync", "runtime", "bench", "tests"].iter().map(|f| root.join(f)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 50, "the sources are not where they are looked for");
    found
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.starts_with("tests/") || path.ends_with("tests.rs")
}

/// The part of a source before its unit tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn lines_fit() {
    let mut problems = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test_file(path)) {
        for (number, line) in text.lines().enumerate() {
            // rustfmt leaves string literals alone, and so does this.
            let is_text = line.contains('"') || line.ends_with('\\');
            if line.chars().count() > COLUMNS && !is_text {
                problems.push(format!("{path}:{}: longer than {COLUMNS} columns", number + 1));
            }
        }
    }
    report(&problems);
}

#[test]
fn files_and_functions_are_short() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        let code = without_tests(&text);
        let allowed = LONG_FILES
            .iter()
            .find(|(long, _)| *long == path)
            .map_or(FILE_LINES, |(_, lines)| *lines);
        let lines = code.lines().count();
        if lines > allowed && !is_test_file(&path) {
            problems.push(format!("{path}: {lines} lines, at most {allowed}"));
        }
        for (name, number, length) in functions(code) {
            if is_test_file(&path) {
                break; // tables of cases
            }
            if length > FUNCTION_LINES {
                problems.push(format!(
                    "{path}:{number}: function {name} has {length} lines, at most {FUNCTION_LINES}"
                ));
            }
        }
    }
    report(&problems);
}

/// Name, first line and length of each function, by indentation: rustfmt closes a function with a
/// brace in the column of its first line.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let mut words = line.trim_start().split([' ', '(', '<']);
        if !words.clone().take(6).any(|word| word == "fn") || line.trim_start().starts_with("//") {
            continue;
        }
        words.find(|word| *word == "fn");
        let name = words.next().unwrap_or_default().to_owned();
        // A declaration in a trait ends with its signature.
        let signature = lines[number..].iter().find(|line| line.ends_with(['{', ';', '}']));
        if signature.is_some_and(|line| line.ends_with(';')) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[number..].iter().position(|line| *line == close) {
            found.push((name, number + 1, length + 1));
        }
    }
    found
}

#[test]
fn nothing_is_left_for_later() {
    let markers = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "todo".to_owned() + "!("];
    let mut problems = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if markers.iter().any(|marker| line.contains(marker.as_str())) {
                problems.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report(&problems);
}

/// Calls that have no place in a folder, each with the reason.
const BANNED: [(&str, &str, &str); 7] = [
    ("core/src/", "Instant::now", "core reads no clock"),
    ("core/src/", "SystemTime::now", "core reads no clock"),
    ("core/src/", "std::fs", "core does no I/O"),
    ("core/src/", "std::net::Tcp", "core does no I/O"),
    ("runtime/src/http/", "std::sync::Mutex", "no lock on the request path"),
    ("runtime/src/http/", "to_socket_addrs", "names are never resolved on a worker"),
    ("runtime/src/worker/", "RwLock", "no lock on the request path"),
];

#[test]
fn banned_calls_are_absent() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        for (folder, call, why) in BANNED {
            if path.starts_with(folder) && without_tests(&text).contains(call) {
                problems.push(format!("{path}: {call}: {why}"));
            }
        }
    }
    report(&problems);
}

#[test]
fn dependencies_point_one_way() {
    let manifest =
        |folder: &str| fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let core = manifest("core");
    for foreign in ["osmia-config-sync", "monoio", "tokio", "glommio", "rustix"] {
        assert!(!core.contains(foreign), "core depends on {foreign}");
    }
    let sync = manifest("config-sync");
    assert!(sync.contains("osmia-core") && !sync.contains("monoio") && !sync.contains("osmia ="));
}

#[test]
fn the_architecture_names_what_exists() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut checked = 0;
    for path in text.split('`').filter(|part| {
        part.contains('/') && part.ends_with(".rs") && !part.contains(['*', ' ', '{'])
    }) {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}");
        checked += 1;
    }
    assert!(checked > 20, "only {checked} paths found");
}

#[test]
fn functions_are_found_and_measured() {
    let code =
        "fn a() {\n    1\n}\nimpl X {\n    pub async fn b<T>(\n    ) {\n        2\n    }\n}\n";
    assert_eq!(functions(code), [("a".to_owned(), 1, 3), ("b".to_owned(), 5, 4)]);
}
