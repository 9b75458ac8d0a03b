//! Every fuzz target, on its seeds and on mutations of them: the same sequence at each run.
//!
//! `make fuzz` runs the same functions under a fuzzer that learns; this holds the line between.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use osmia_core::fuzzing::{CANARY, Outcome, TARGETS, Target};

/// Mutated inputs per target.
const ROUNDS: u32 = 10_000;

/// Runs `target` on its seeds and on mutations of them; the numbers of accepted and refused inputs.
fn run(target: Target, seeds: &[Vec<u8>], rounds: u32) -> Result<(u32, u32), Vec<u8>> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..rounds {
        let mut input = random.choice(seeds).clone();
        if let Some(seed) = seeds.get(round as usize) {
            input.clone_from(seed);
        } else {
            for _ in 0..=random.below(4) {
                mutate(&mut input, seeds, &mut random);
            }
        }
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            Ok(Outcome::Accepted) => accepted += 1,
            Ok(Outcome::Refused) => refused += 1,
            Ok(Outcome::Incomplete) => {}
            Err(_) => return Err(input),
        }
    }
    Ok((accepted, refused))
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const PIECES: [&[u8]; 12] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b":",
        b" ",
        b"\t",
        b",",
        b"0",
        b";a=b",
        b"%2e",
        b"/../",
    ];
    let at = random.below(input.len() + 1);
    match random.below(6) {
        0 => input.truncate(at),
        1 => input.insert(at, random.below(256) as u8),
        2 if at < input.len() => input[at] ^= 1 << random.below(8),
        3 if at < input.len() => drop(input.remove(at)),
        4 => {
            let tail = random.choice(seeds);
            input.truncate(at);
            input.extend_from_slice(&tail[random.below(tail.len())..]);
        }
        _ => drop(input.splice(at..at, random.choice(&PIECES).iter().copied())),
    }
}

/// xorshift64*: the same inputs at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }

    fn choice<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn all_targets_hold_and_reach_both_verdicts() {
    for target in TARGETS {
        let result = run(target, &seeds(target.name), ROUNDS);
        let (accepted, refused) =
            result.unwrap_or_else(|input| panic!("{}: {}", target.name, input.escape_ascii()));
        assert!(accepted > ROUNDS / 20, "{}: {accepted} accepted", target.name);
        assert!(refused > ROUNDS / 20, "{}: {refused} refused", target.name);
    }
}

#[test]
fn the_canary_fails() {
    let prefixes: Vec<Vec<u8>> = seeds("request_head")
        .into_iter()
        .map(|seed| seed[..seed.len() - 1].to_vec())
        .filter(|seed| catch_unwind(|| (CANARY.run)(seed)).is_ok())
        .collect();
    assert!(run(CANARY, &prefixes, ROUNDS).is_err(), "a broken invariant goes unnoticed");
}
