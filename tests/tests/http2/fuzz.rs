//! Random frames, good and bad: the gateway goes on. `OSMIA_H2_SEEDS=1000` tries more.

use std::time::Duration;

use osmia_tests::h2::{Frame, H2, get, hpack, kind};
use osmia_tests::on_each_driver;

use super::{Front, post};

/// Numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const PATHS: [&str; 5] = ["/", "/echo", "/size/5000", "/chunked/70000", "/trailers"];

/// A frame that is right more often than not. `open` is the newest stream.
fn frame(random: &mut Random, open: &mut u32) -> Frame {
    let stream = if random.below(8) == 0 { random.below(50) as u32 } else { *open };
    match random.below(16) {
        0..=3 => {
            *open += 2;
            let end = random.below(2) == 0;
            let path = random.pick(&PATHS);
            let fields = if end { get(path) } else { post(path) };
            Frame::headers(*open, hpack::block(&fields), end)
        }
        4..=6 => {
            let end = random.below(3) == 0;
            Frame::data(stream, random.bytes(300), end)
        }
        7 => Frame::window(random.pick(&[0, stream]), random.below(100_000) as u32),
        8 => Frame::reset(stream, random.below(16) as u32),
        9 => Frame::ping([random.next() as u8; 8]),
        10 => {
            let name = random.below(10) as u16;
            let value = random.pick(&[0, 1, 100, 16_384, 65_535, 1 << 20, u32::MAX]);
            Frame::settings(&[(name, value)])
        }
        11 => Frame::priority(stream, random.below(20) as u32, random.next() as u8),
        12 => Frame::data(stream, random.bytes(50), false).padded(random.next() as u8, 20),
        13 => Frame::headers(stream, random.bytes(60), random.below(2) == 0),
        14 => Frame::continuation(stream, random.bytes(20), random.below(2) == 0),
        _ => {
            let (kind, flags) = (random.below(12) as u8, random.next() as u8);
            Frame::new(kind, flags, stream, random.bytes(30))
        }
    }
}

/// One connection. How it ends does not matter, as long as the kit finds what comes well formed.
fn play(front: &Front, seed: u64) {
    let mut random = Random::new(seed);
    let mut h2 = H2::silent(front.gateway.addr());
    h2.push(&[]);
    let mut bytes = osmia_tests::h2::frame::PREFACE.to_vec();
    bytes.extend(Frame::settings(&[]).bytes());
    let mut open = 1;
    for _ in 0..random.below(60) {
        let frame = frame(&mut random, &mut open);
        // Sometimes the length in the header is not that of the payload.
        let odd = random.below(40) == 0;
        let length = if odd { random.below(100) as usize } else { frame.payload.len() };
        bytes.extend(frame.bytes_with_length(length));
    }
    for part in bytes.chunks(1 + random.below(400) as usize) {
        if h2.try_send_bytes(part).is_err() {
            break;
        }
    }
    let _ = h2.socket().shutdown(std::net::Shutdown::Write);
    // Responses may be reset or incomplete in any way; their frames are well formed nevertheless.
    while let Ok(Some(frame)) = h2.next_within(Duration::from_secs(30)) {
        assert!(frame.payload.len() <= 1 << 24, "seed {seed}: {frame:?}");
        assert!(frame.kind <= kind::CONTINUATION, "seed {seed}: {frame:?}");
    }
    assert!(h2.ended, "seed {seed}: the connection is neither ended nor busy: {}", h2.describe());
}

on_each_driver! {
    fn random_frames_never_wedge_the_gateway(driver: Driver) {
        let seeds = std::env::var("OSMIA_H2_SEEDS").ok().and_then(|text| text.parse().ok());
        let front = Front::start_with(driver, |config| {
            config.http("client_header_timeout", "2s").http("client_body_timeout", "2s").http("keepalive_timeout", "2s")
        });
        for seed in 0..seeds.unwrap_or(60) {
            eprintln!("seed {seed}");
            play(&front, seed);
            if seed % 10 == 0 {
                front.check_serves();
            }
        }
        front.check_serves();
        let resident = front.gateway.resident();
        assert!(resident < 256 << 20, "{} MiB", resident >> 20);
    }
}
