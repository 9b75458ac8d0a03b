//! CRC-32 (ISO-HDLC, as in zlib and nginx), eight bytes at a time.

const POLYNOMIAL: u32 = 0xedb8_8320;

/// `TABLES[n][byte]`: what `byte` contributes when `n` bytes follow it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut state = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            state = if state & 1 == 1 { state >> 1 ^ POLYNOMIAL } else { state >> 1 };
            bit += 1;
        }
        tables[0][byte] = state;
        byte += 1;
    }
    let mut rest = 1;
    while rest < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[rest - 1][byte];
            tables[rest][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        rest += 1;
    }
    tables
}

/// The checksum of `bytes`.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    !update(!0, bytes)
}

/// The register after `bytes`, from `state`; begins with all ones, and its inverse is the checksum.
pub(super) fn update(mut state: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word) ^ u64::from(state);
        let of = |at: usize| TABLES[7 - at][(word >> (8 * at) & 0xff) as usize];
        state = of(0) ^ of(1) ^ of(2) ^ of(3) ^ of(4) ^ of(5) ^ of(6) ^ of(7);
    }
    for byte in rest {
        state = state >> 8 ^ TABLES[0][(state as u8 ^ byte) as usize];
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_catalogue_and_with_itself() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926); // the check value of CRC-32/ISO-HDLC
        assert_eq!(checksum(b""), 0);
        let bytes: Vec<u8> = (0..100).map(|n: u8| n.wrapping_mul(37)).collect();
        for length in 0..bytes.len() {
            let one_by_one = bytes[..length].iter().fold(!0, |state, b| update(state, &[*b]));
            assert_eq!(checksum(&bytes[..length]), !one_by_one);
        }
    }
}
