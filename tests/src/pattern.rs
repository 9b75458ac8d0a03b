//! Bodies of any size that need not be kept to be checked.

use std::sync::LazyLock;

/// A prime number of bytes: neither blocks nor pages repeat, so that one lost or repeated shows.
const PERIOD: usize = 65_521;

static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..PERIOD).map(next).collect()
});

/// `len` bytes of the pattern from `offset` on.
pub fn bytes(offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    for part in parts(offset, len) {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Fails unless `found` is what the pattern has at `offset`.
#[track_caller]
pub fn check(offset: u64, found: &[u8]) {
    let mut rest = found;
    for part in parts(offset, found.len()) {
        let (head, tail) = rest.split_at(part.len());
        if head != part {
            let within = head.iter().zip(part).position(|(a, b)| a != b).unwrap_or_default();
            let at = offset + (found.len() - rest.len() + within) as u64;
            panic!("byte {at} of the body differs");
        }
        rest = tail;
    }
}

fn parts(offset: u64, mut len: usize) -> impl Iterator<Item = &'static [u8]> {
    let mut at = (offset % PERIOD as u64) as usize;
    std::iter::from_fn(move || {
        let take = len.min(PERIOD - at);
        let part = &BLOCK[at..at + take];
        len -= take;
        at = 0;
        (take > 0).then_some(part)
    })
}
