use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::store::Change;

const SOURCE: &str = "http://a:2379/apisix";

fn item(path: &str, created: u64, modified: u64) -> Item {
    let value = Bytes::from(format!("{{\"modified\":{modified}}}"));
    Item { path: path.to_owned(), value, created, modified }
}

fn contents(revision: u64, items: &[Item]) -> Contents {
    Contents { revision, items: items.to_vec() }
}

fn put(path: &str, revision: u64) -> Commit {
    Commit { revision, author: None, changes: vec![Change::Put(item(path, revision, revision))] }
}

fn open(path: &Path) -> (Copy, Option<Contents>) {
    Copy::open(path, SOURCE).unwrap()
}

/// A folder, and in it a copy that is new.
fn fresh() -> (tempfile::TempDir, PathBuf, Copy) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last-good.copy");
    let (copy, found) = open(&path);
    assert_eq!(found, None);
    (folder, path, copy)
}

/// What a copy has when it is opened after a crash.
fn crashed(copy: Copy) -> Option<Contents> {
    let path = copy.path.clone();
    drop(copy);
    open(&path).1
}

fn finish(copy: &mut Copy) {
    while copy.pending() != Pending::Nothing {
        copy.step().unwrap();
    }
}

fn files(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_copy_is_what_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new folder").join("last-good.copy");
    let (mut copy, found) = open(&path);
    assert_eq!(found, None);
    let first = contents(7, &[item("routes/1", 2, 3), item("routes/2", 7, 7)]);
    copy.replace(first.clone()).unwrap();
    assert_eq!(copy.pending(), Pending::Urgent);
    copy.close().unwrap();
    let (mut copy, found) = open(&path);
    assert_eq!(found, Some(first));
    // A store that was set back, and an empty one.
    for next in [contents(4, &[item("routes/2", 4, 4), item("services/1", 1, 1)]), contents(5, &[])]
    {
        copy.replace(next.clone()).unwrap();
        finish(&mut copy);
        assert_eq!(crashed(copy), Some(next));
        copy = open(&path).0;
    }
}

#[test]
fn what_it_has_already_is_not_written_again() {
    let (_folder, path, mut copy) = fresh();
    let items = [item("routes/1", 2, 3), item("routes/2", 7, 7)];
    copy.replace(contents(7, &items)).unwrap();
    finish(&mut copy);
    copy.apply(&[put("routes/3", 8)]).unwrap();
    let same = [&items[..], &[item("routes/3", 8, 8)]].concat();
    copy.replace(contents(9, &same)).unwrap();
    assert_eq!(copy.pending(), Pending::Nothing);
    assert_eq!(crashed(copy), Some(contents(9, &same)));
    // Each of these differs in one thing.
    let other = |change: fn(&mut Vec<Item>)| {
        let (mut copy, _) = open(&path);
        let mut items = same.clone();
        change(&mut items);
        copy.replace(contents(9, &items)).unwrap();
        assert_eq!(copy.pending(), Pending::Urgent);
    };
    other(|items| items[0].created = 1);
    other(|items| items[1].modified = 8);
    other(|items| items[2].value = Bytes::from_static(b"{}"));
    other(|items| items[2].path = "routes/4".to_owned());
    other(|items| drop(items.pop()));
    other(|items| items.push(item("routes/4", 9, 9)));
}

#[test]
fn contents_on_their_way_are_not_taken_for_written() {
    let (_folder, _, mut copy) = fresh();
    let (first, second) = (contents(1, &[item("a", 1, 1)]), contents(2, &[item("b", 2, 2)]));
    copy.replace(first.clone()).unwrap();
    finish(&mut copy);
    copy.replace(second).unwrap();
    copy.replace(first.clone()).unwrap();
    finish(&mut copy);
    assert_eq!(crashed(copy), Some(first));
}

#[test]
fn another_source_is_not_served_from_the_old_one() {
    let (_folder, path, mut copy) = fresh();
    copy.replace(contents(7, &[item("routes/1", 2, 3)])).unwrap();
    copy.close().unwrap();
    let other = "http://b:2379/apisix";
    assert_eq!(Copy::open(&path, other).unwrap().1, None);
    let (mut copy, found) = open(&path);
    assert_eq!(found, None);
    copy.apply(&[put("routes/1", 8)]).unwrap();
    assert_eq!(crashed(copy), Some(contents(8, &[item("routes/1", 8, 8)])));
}

#[test]
fn it_is_written_anew_when_half_of_it_no_longer_holds() {
    let (folder, path, mut copy) = fresh();
    let items: Vec<Item> = (0..100).map(|n| item(&format!("routes/{n:03}"), 1, 1)).collect();
    copy.replace(contents(1, &items)).unwrap();
    finish(&mut copy);
    copy.log.limit -= SPARE;
    let mut revision = 1;
    while copy.pending() == Pending::Nothing {
        revision += 1;
        copy.apply(&[put("routes/050", revision)]).unwrap();
    }
    assert_eq!(copy.pending(), Pending::Slow);
    // Half way it goes on as before, and what is begun is removed.
    copy.step().unwrap();
    assert_eq!(files(&folder).len(), 2);
    let before = copy.log.written.len;
    copy.apply(&[put("routes/051", revision + 1)]).unwrap();
    finish(&mut copy);
    assert!(copy.log.written.len < before * 6 / 10, "{} of {before}", copy.log.written.len);
    assert_eq!(copy.log.written.len, fs::metadata(&path).unwrap().len());
    assert_eq!(files(&folder), ["last-good.copy"]);
    let found = crashed(copy).unwrap();
    assert_eq!((found.revision, found.items.len()), (revision + 1, 100));
    assert_eq!(found.items[50].modified, revision);
    assert_eq!(found.items[51].modified, revision + 1);
    assert_eq!(found.items[52].modified, 1);
}

#[test]
fn what_was_begun_is_removed() {
    let (folder, path, mut copy) = fresh();
    copy.replace(contents(7, &[item("routes/1", 2, 3)])).unwrap();
    assert_eq!(files(&folder).len(), 2);
    drop(copy);
    assert_eq!(files(&folder), ["last-good.copy"]);
    // The process was killed in the middle of it.
    fs::write(folder.path().join("last-good.copy.new"), "anything").unwrap();
    let (mut copy, _) = open(&path);
    copy.replace(contents(7, &[item("routes/1", 2, 3)])).unwrap();
    copy.close().unwrap();
    assert_eq!(files(&folder), ["last-good.copy"]);
}

#[test]
fn a_full_disk_costs_what_comes_until_the_contents_come_again() {
    let (_folder, path, mut copy) = fresh();
    let first = contents(1, &[item("a", 1, 1)]);
    copy.replace(first.clone()).unwrap();
    finish(&mut copy);
    copy.break_disk();
    let error = copy.apply(&[put("b", 2)]).unwrap_err().to_string();
    assert!(error.contains("last-good.copy") && error.contains("space"), "{error}");
    assert!(copy.is_behind());
    copy.apply(&[put("c", 3)]).unwrap();
    // Nor is it made to look like something that it is not.
    copy.log.limit = 0;
    finish(&mut copy);
    assert_eq!(crashed(copy), Some(first.clone()));
    let (mut copy, _) = open(&path);
    copy.break_disk();
    copy.apply(&[put("b", 2)]).unwrap_err();
    // Even what the file has is not added to a file that cannot be added to.
    copy.replace(first.clone()).unwrap();
    assert_eq!(copy.pending(), Pending::Urgent);
    copy.apply(&[put("c", 4)]).unwrap();
    finish(&mut copy);
    assert!(!copy.is_behind());
    let expected = contents(4, &[first.items[0].clone(), item("c", 4, 4)]);
    assert_eq!(crashed(copy), Some(expected));
}

#[test]
fn what_is_not_a_copy_is_moved_aside() {
    let (folder, path, mut copy) = fresh();
    let items: Vec<Item> = (1..500).map(|n| item(&format!("routes/{n:03}"), n, n)).collect();
    copy.replace(contents(500, &items)).unwrap();
    copy.close().unwrap();
    let good = fs::read(&path).unwrap();
    let mut torn = good.clone();
    torn[good.len() / 2..].fill(0xA5);
    let short = good[..good.len() / 3].to_vec();
    let mut newer = Vec::new();
    let head = Row::Head { magic: MAGIC, format: FORMAT + 1, source: SOURCE };
    frames::append(&mut newer, &head).unwrap();
    let twice = [&good[..], &good[..]].concat();
    for (number, bad) in
        [torn, short, b"{}".to_vec(), Vec::new(), vec![0; 64], newer, twice].iter().enumerate()
    {
        fs::write(&path, bad).unwrap();
        let (mut copy, found) = open(&path);
        assert_eq!(found, None, "damage {number}");
        copy.apply(&[put("a", 1)]).unwrap();
        assert_eq!(crashed(copy), Some(contents(1, &[item("a", 1, 1)])));
        let aside = files(&folder).into_iter().find(|name| name.contains("damaged")).unwrap();
        assert_eq!(&fs::read(folder.path().join(&aside)).unwrap(), bad);
        fs::remove_file(folder.path().join(aside)).unwrap();
    }
}

#[test]
fn a_file_in_use_is_left_alone() {
    let (folder, path, copy) = fresh();
    let error = Copy::open(&path, "another").err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    assert_eq!(files(&folder), ["last-good.copy"]);
    drop(copy);
    open(&path);
}

/// What is done to a copy.
#[derive(Debug, Clone)]
enum Act {
    Commit(Vec<(u8, bool)>),
    Replace(Vec<u8>),
    /// Lets it be written anew.
    Shrink,
    Step,
    Flush,
    Crash,
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => proptest::collection::btree_map(0..12_u8, proptest::bool::weighted(0.7), 0..4)
            .prop_map(|changes| Act::Commit(changes.into_iter().collect())),
        1 => proptest::collection::btree_set(0..12_u8, 0..12)
            .prop_map(|paths| Act::Replace(paths.into_iter().collect())),
        1 => Just(Act::Shrink),
        4 => Just(Act::Step),
        1 => Just(Act::Flush),
        1 => Just(Act::Crash),
        1 => Just(Act::Close),
    ]
}

type Model = (u64, BTreeMap<String, Item>);

fn expected(model: Option<&Model>) -> Option<Contents> {
    model.map(|(revision, items)| Contents {
        revision: *revision,
        items: items.values().cloned().collect(),
    })
}

/// Text long enough for a file of several steps.
fn large(number: u8, created: u64, revision: u64) -> Item {
    let value = Bytes::from(format!("{revision}{}", "x".repeat(300)));
    Item { path: format!("routes/{number}"), value, created, modified: revision }
}

proptest! {
    #[test]
    fn it_follows_whatever_comes(acts in proptest::collection::vec(act(), 1..60)) {
        let (_folder, path, mut copy) = fresh();
        let mut revision = 0;
        // What the copy is to have, and what a crash leaves of it.
        let (mut model, mut safe) = (None::<Model>, None::<Model>);
        for act in acts {
            match act {
                Act::Commit(numbers) => {
                    revision += 1;
                    let (at, items) = model.get_or_insert_default();
                    *at = revision;
                    let mut changes = Vec::new();
                    for (number, is_put) in numbers {
                        let path = format!("routes/{number}");
                        if is_put {
                            let created = items.get(&path).map_or(revision, |item| item.created);
                            let item = large(number, created, revision);
                            items.insert(path, item.clone());
                            changes.push(Change::Put(item));
                        } else {
                            items.remove(&path);
                            changes.push(Change::Delete { path });
                        }
                    }
                    copy.apply(&[Commit { revision, author: None, changes }]).unwrap();
                }
                Act::Replace(numbers) => {
                    revision += 1;
                    let items = numbers.into_iter().map(|number| large(number, 1, revision));
                    let items = items.map(|item| (item.path.clone(), item)).collect();
                    model = Some((revision, items));
                    copy.replace(expected(model.as_ref()).unwrap()).unwrap();
                }
                Act::Shrink => copy.log.limit = 0,
                Act::Step => copy.step().unwrap(),
                Act::Flush => copy.flush().unwrap(),
                Act::Crash => {
                    let found = crashed(copy);
                    prop_assert_eq!(&found, &expected(safe.as_ref()));
                    model.clone_from(&safe);
                    copy = open(&path).0;
                }
                Act::Close => {
                    copy.close().unwrap();
                    let (opened, found) = open(&path);
                    prop_assert_eq!(found, expected(model.as_ref()));
                    copy = opened;
                }
            }
            if copy.pending() != Pending::Urgent {
                safe.clone_from(&model);
            }
        }
        finish(&mut copy);
        prop_assert_eq!(crashed(copy), expected(model.as_ref()));
    }

    #[test]
    fn damage_costs_the_end_or_all_of_it(
        at in any::<Index>(),
        bits in 1..=255_u8,
        is_cut in any::<bool>(),
    ) {
        let (_folder, path, mut copy) = fresh();
        let mut items: Vec<Item> = (0..4).map(|n| large(n, 1, 1)).collect();
        copy.replace(contents(1, &items)).unwrap();
        finish(&mut copy);
        let mut states = vec![None, Some(contents(1, &items))];
        for revision in 2..9 {
            let changed = large(revision as u8 % 4, 1, revision);
            items[revision as usize % 4] = changed.clone();
            let changes = vec![Change::Put(changed)];
            copy.apply(&[Commit { revision, author: None, changes }]).unwrap();
            states.push(Some(contents(revision, &items)));
        }
        copy.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if is_cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= bits;
        }
        fs::write(&path, bytes).unwrap();
        let (mut copy, found) = open(&path);
        prop_assert!(states.contains(&found), "{:?}", found);
        // And goes on from there.
        copy.apply(&[put("services/1", 20)]).unwrap();
        let mut next = found.unwrap_or_default();
        next.items.push(item("services/1", 20, 20));
        next.revision = 20;
        prop_assert_eq!(crashed(copy), Some(next));
    }
}
