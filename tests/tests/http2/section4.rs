//! Section 4: frames, and header blocks.

use osmia_tests::h2::{Frame, H2, Outcome, code, flag, get, hpack, kind, setting};
use osmia_tests::on_each_driver;

use super::{
    COMPRESSION, CONNECTION, Case, FRAME_SIZE, Front, IGNORED, Look, PROTOCOL, SERVED, post,
};

/// A frame of one byte more than the server takes.
fn too_long(h2: &H2) -> Vec<u8> {
    vec![0; h2.setting(setting::MAX_FRAME_SIZE, 16_384) as usize + 1]
}

/// The frames, and then a look at the connection.
fn reaction(h2: &mut H2, frames: &[Frame]) -> Look {
    h2.push(frames);
    CONNECTION
}

/// The frames, and then a wait for an error: nothing else can be said there.
fn error(h2: &mut H2, frames: &[Frame]) -> Look {
    h2.push(frames);
    Look::Answer(0)
}

/// The first part of a request, whose block goes on.
fn begun(h2: &mut H2) -> (u32, Frame) {
    let stream = h2.open();
    let block = hpack::block(&get("/"));
    (stream, Frame::headers(stream, block, true).unflagged(flag::END_HEADERS))
}

const SIZES: &[Case] = &[
    Case(
        "DATA beyond the size",
        |h2| {
            let stream = h2.request_with_body(&post("/echo"));
            let frame = Frame::data(stream, too_long(h2), true);
            h2.push(&[frame]);
            Look::Answer(stream)
        },
        &[Outcome::Reset(code::FRAME_SIZE_ERROR), Outcome::GoAway(code::FRAME_SIZE_ERROR)],
    ),
    Case(
        "HEADERS beyond the size",
        |h2| {
            let frame = Frame::headers(1, too_long(h2), true);
            error(h2, &[frame])
        },
        FRAME_SIZE,
    ),
    Case(
        "SETTINGS beyond the size",
        |h2| {
            let frame = Frame::new(kind::SETTINGS, 0, 0, too_long(h2));
            error(h2, &[frame])
        },
        FRAME_SIZE,
    ),
    Case(
        "an unknown frame beyond the size",
        |h2| {
            let frame = Frame::new(0x20, 0, 0, too_long(h2));
            error(h2, &[frame])
        },
        FRAME_SIZE,
    ),
    Case(
        "a length of 2^24 - 1",
        |h2| {
            let bytes = Frame::data(1, [], true).bytes_with_length(0xff_ffff);
            let _ = h2.try_send_bytes(&bytes);
            Look::Answer(0)
        },
        FRAME_SIZE,
    ),
    Case(
        "DATA of the greatest size",
        |h2| {
            let stream = h2.request_with_body(&post("/echo"));
            h2.push(&[Frame::data(stream, vec![1; 16_384], true)]);
            Look::Answer(stream)
        },
        SERVED,
    ),
];

const UNKNOWN: &[Case] = &[
    Case(
        "unknown types",
        |h2| {
            let frames: Vec<Frame> =
                (0x0b..=0xff).map(|kind| Frame::new(kind, 0xff, 0, *b"unknown")).collect();
            reaction(h2, &frames)
        },
        IGNORED,
    ),
    Case(
        "an unknown type on an idle stream",
        |h2| reaction(h2, &[Frame::new(0xf0, 0, 77, []), Frame::new(0x0c, 0, 2, [1])]),
        IGNORED,
    ),
    Case(
        "an unknown type within a stream",
        |h2| {
            let stream = h2.request_with_body(&post("/echo"));
            h2.push(&[
                Frame::data(stream, *b"a", false),
                Frame::new(0x42, 0xff, stream, *b"b"),
                Frame::data(stream, *b"c", true),
            ]);
            Look::Answer(stream)
        },
        SERVED,
    ),
    Case(
        "unknown flags",
        |h2| {
            h2.push(&[Frame::ping([7; 8]).flagged(0xfe), Frame::window(0, 1).flagged(0xff)]);
            let stream = h2.open();
            let request = Frame::headers(stream, hpack::block(&get("/")), true);
            h2.push(&[request.flagged(0x02 | 0x10 | 0x40 | 0x80)]);
            Look::Answer(stream)
        },
        SERVED,
    ),
    Case(
        "the reserved bit of a stream",
        |h2| {
            let stream = h2.open();
            let request = Frame::headers(stream | 1 << 31, hpack::block(&get("/")), true);
            h2.push(&[Frame::new(kind::PING, 0, 1 << 31, [0; 8]), request]);
            Look::Answer(stream)
        },
        SERVED,
    ),
];

/// A header block is one piece: nothing may come between its frames (section 4.3).
const INTERLEAVED: &[Case] = &[
    Case("DATA within a block", |h2| interleaved(h2, |s| Frame::data(s, *b"x", true)), PROTOCOL),
    Case(
        "HEADERS of another stream within a block",
        |h2| interleaved(h2, |s| Frame::headers(s + 2, hpack::block(&get("/")), true)),
        PROTOCOL,
    ),
    Case(
        "HEADERS of the same stream within a block",
        |h2| interleaved(h2, |s| Frame::headers(s, hpack::block(&[("x", "y")]), true)),
        PROTOCOL,
    ),
    Case(
        "CONTINUATION of another stream",
        |h2| interleaved(h2, |s| Frame::continuation(s + 2, [], true)),
        PROTOCOL,
    ),
    Case("PRIORITY within a block", |h2| interleaved(h2, |s| Frame::priority(s, 0, 1)), PROTOCOL),
    Case("RST_STREAM within a block", |h2| interleaved(h2, |s| Frame::reset(s, 8)), PROTOCOL),
    Case("SETTINGS within a block", |h2| interleaved(h2, |_| Frame::settings(&[])), PROTOCOL),
    Case("PING within a block", |h2| interleaved(h2, |_| Frame::ping([0; 8])), PROTOCOL),
    Case("GOAWAY within a block", |h2| interleaved(h2, |_| Frame::goaway(0, 0)), PROTOCOL),
    Case("WINDOW_UPDATE within a block", |h2| interleaved(h2, |_| Frame::window(0, 1)), PROTOCOL),
    Case(
        "an unknown frame within a block",
        |h2| interleaved(h2, |s| Frame::new(0x33, 0, s, [])),
        PROTOCOL,
    ),
];

fn interleaved(h2: &mut H2, between: fn(u32) -> Frame) -> Look {
    let (stream, first) = begun(h2);
    h2.push(&[first, between(stream), Frame::continuation(stream, [], true)]);
    Look::Answer(0)
}

/// The block alone, as a request.
fn block(h2: &mut H2, block: &[u8]) -> Look {
    let stream = h2.open();
    h2.push(&[Frame::headers(stream, block, true)]);
    Look::Answer(stream)
}

/// The block after a good request.
fn after(h2: &mut H2, more: &[u8]) -> Look {
    block(h2, &[&hpack::block(&get("/")), more].concat())
}

/// Section 4.3: what cannot be decoded ends the connection.
const COMPRESSIONS: &[Case] = &[
    Case("index 0", |h2| after(h2, &[0x80]), COMPRESSION),
    Case("an index beyond both tables", |h2| after(h2, &[0xc0]), COMPRESSION),
    Case("a name beyond both tables", |h2| after(h2, &[0x7f, 0x10, 1, b'x']), COMPRESSION),
    Case("an endless number", |h2| after(h2, &[0xff; 20]), COMPRESSION),
    Case("a string that is cut off", |h2| after(h2, &[0x00, 1, b'x', 9, b'y']), COMPRESSION),
    Case("a field without a value", |h2| after(h2, &[0x00, 1, b'x']), COMPRESSION),
    Case("Huffman padding of zeros", |h2| after(h2, &[0, 1, b'x', 0x81, 0x1e]), COMPRESSION),
    Case("Huffman padding of a byte", |h2| after(h2, &[0, 1, b'x', 0x82, 0x1f, 0xff]), COMPRESSION),
    Case("Huffman EOS", |h2| after(h2, &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), COMPRESSION),
    Case("a table beyond the limit", |h2| block(h2, &[0x3f, 0xe1, 0xff, 0xff, 0x03]), COMPRESSION),
    Case("a table's size behind a field", |h2| after(h2, &[0x20]), COMPRESSION),
];

on_each_driver! {
    fn frames_have_a_size(driver: Driver) {
        Front::start(driver).check(SIZES);
    }

    fn what_is_unknown_is_ignored(driver: Driver) {
        Front::start(driver).check(UNKNOWN);
    }

    fn header_blocks_are_one_piece(driver: Driver) {
        Front::start(driver).check(INTERLEAVED);
    }

    fn header_blocks_that_cannot_be_decoded_end_the_connection(driver: Driver) {
        Front::start(driver).check(COMPRESSIONS);
    }

    fn a_block_may_come_in_pieces(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.open();
        let block = hpack::block(&[&get("/pieces")[..], &[("x-long", &"y".repeat(60))]].concat());
        let (first, rest) = block.split_at(5);
        h2.send(&Frame::headers(stream, first, true).unflagged(flag::END_HEADERS));
        for piece in rest.chunks(32) {
            h2.send(&Frame::continuation(stream, piece, false));
        }
        h2.send(&Frame::continuation(stream, [], true));
        assert_eq!(h2.response(stream).status(), 200);
        assert_eq!(front.origin.only("/pieces").field("x-long").map(str::len), Some(60));
    }

    /// The table is the connection's: also a request that is refused adds to it.
    fn the_table_outlives_errors_of_streams(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let mut block = hpack::block(&get("/refused"));
        hpack::indexing(&mut block, b"x-kept", b"in the table");
        hpack::literal(&mut block, b"connection", b"close");
        let stream = h2.open();
        h2.send(&Frame::headers(stream, block, true));
        let outcome = h2.outcome(stream);
        assert!(crate::MALFORMED.contains(&outcome), "{outcome:?}");
        if matches!(outcome, Outcome::GoAway(_)) {
            return;
        }
        let mut block = hpack::block(&get("/table"));
        hpack::indexed(&mut block, 62);
        let stream = h2.open();
        h2.send(&Frame::headers(stream, block, true));
        assert_eq!(h2.response(stream).status(), 200);
        assert_eq!(front.origin.only("/table").field("x-kept"), Some("in the table"));
    }

    fn a_table_may_shrink_and_grow(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        for (sizes, path) in [(&[0][..], "/1"), (&[0, 4096], "/2"), (&[100, 50, 4096], "/3")] {
            let mut block = Vec::new();
            for size in sizes {
                hpack::table_size(&mut block, *size);
            }
            block.extend(hpack::block(&get(path)));
            hpack::indexing(&mut block, b"x-a", b"b");
            let stream = h2.open();
            h2.send(&Frame::headers(stream, block, true));
            assert_eq!(h2.response(stream).status(), 200);
            assert_eq!(front.origin.only(path).field("x-a"), Some("b"));
        }
    }

    /// The server's encoder keeps to the table that the client has.
    fn a_client_without_a_table_can_read_responses(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::HEADER_TABLE_SIZE, 0)]);
        for _ in 0..3 {
            let stream = h2.get("/trailers");
            assert_eq!(h2.response(stream).text(), "body");
        }
    }
}
