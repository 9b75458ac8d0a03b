//! Header blocks (RFC 7541): written by hand, so that anything can be said, and read by a decoder
//! that is not the gateway's.

/// Header fields in order: name and value, as bytes that may be wrong.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Fields from text.
pub fn fields(list: &[(&str, &str)]) -> Fields {
    list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// A block of literals without indexing (section 6.2.2), which leave no trace in the table.
pub fn block(list: &[(&str, &str)]) -> Vec<u8> {
    raw_block(&fields(list))
}

/// The same for fields of any bytes.
pub fn raw_block(list: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in list {
        literal(&mut out, name, value);
    }
    out
}

/// One literal without indexing.
pub fn literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0x00);
    string(out, name);
    string(out, value);
}

/// One literal that goes into the table (section 6.2.1).
pub fn indexing(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0x40);
    string(out, name);
    string(out, value);
}

/// A reference to an entry of the table (section 6.1). The newest of the dynamic table is 62.
pub fn indexed(out: &mut Vec<u8>, index: usize) {
    integer(out, 0x80, 7, index);
}

/// A change of the table's size (section 6.3).
pub fn table_size(out: &mut Vec<u8>, size: usize) {
    integer(out, 0x20, 5, size);
}

/// A string without Huffman coding (section 5.2).
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 0x00, 7, text.len());
    out.extend_from_slice(text);
}

/// A number behind a prefix of `bits` bits in a byte that begins with `first` (section 5.1).
pub fn integer(out: &mut Vec<u8>, first: u8, bits: u8, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        out.push(first | value as u8);
        return;
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// The state of one direction.
pub struct Decoder(loona_hpack::Decoder<'static>);

impl Default for Decoder {
    fn default() -> Self {
        Self(loona_hpack::Decoder::new())
    }
}

impl Decoder {
    /// The fields of a block, as text, bytes beyond ASCII as characters of Latin-1.
    #[track_caller]
    pub fn decode(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let fields = self.0.decode(block);
        let fields = fields
            .unwrap_or_else(|error| panic!("header block {}: {error:?}", block.escape_ascii()));
        let text = |bytes: Vec<u8>| bytes.into_iter().map(char::from).collect();
        fields.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_written_by_hand_is_read() {
        let long = "x".repeat(5000);
        let list = [(":method", "GET"), ("x-long", long.as_str()), ("empty", "")];
        assert_eq!(Decoder::default().decode(&block(&list)), pairs(&list));
    }

    #[test]
    fn references_find_what_was_put_into_the_table() {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        indexing(&mut out, b"name", b"value");
        indexed(&mut out, 62);
        indexed(&mut out, 2);
        let expected = [("name", "value"), ("name", "value"), (":method", "GET")];
        assert_eq!(decoder.decode(&out), pairs(&expected));
        let mut out = Vec::new();
        table_size(&mut out, 0);
        table_size(&mut out, 4096);
        indexing(&mut out, b"other", b"1");
        indexed(&mut out, 62);
        assert_eq!(decoder.decode(&out), pairs(&[("other", "1"), ("other", "1")]));
    }

    /// RFC 7541, section 5.1 and C.1.
    #[test]
    fn numbers_are_those_of_the_standard() {
        let written = |first, bits, value| {
            let mut out = Vec::new();
            integer(&mut out, first, bits, value);
            out
        };
        assert_eq!(written(0, 5, 10), [10]);
        assert_eq!(written(0, 5, 1337), [31, 154, 10]);
        assert_eq!(written(0x80, 7, 127), [0xff, 0]);
    }
}
