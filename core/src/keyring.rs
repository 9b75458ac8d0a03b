//! APISIX's encryption of sensitive fields at rest (`apisix.data_encryption`; data-encryption
//! section of plugin-develop.md).
//!
//! AES-CBC with PKCS#7 padding; the key is its own initialization vector, of which AES takes the
//! first 16 bytes; the result is written in base64. That hides values from who reads the store, it
//! does not authenticate them: changing it would make existing data unreadable.

use std::fmt;

use aes::{Aes128, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};

/// Bytes of the initialization vector: one block.
const IV_BYTES: usize = 16;

/// What marks a private key that is not encrypted: the dashes of PEM.
const PEM: &str = "---";

/// Keys for sensitive fields: the first encrypts, all are tried to decrypt.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<String>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

impl Keyring {
    /// A keyring of keys of 16 or 32 bytes; empty: fields are stored as they are. Keys of another
    /// length are never used; the settings' loader refuses them.
    pub fn new(keys: Vec<String>) -> Self {
        let usable = |key: &String| matches!(key.len(), 16 | 32);
        Self { keys: keys.into_iter().filter(usable).collect() }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// `text` encrypted with the first key, in base64; as it is when there is no key.
    pub fn encrypt(&self, text: &str) -> String {
        let encrypted = self.keys.first().and_then(|key| encrypt(key.as_bytes(), text.as_bytes()));
        encrypted.map_or_else(|| text.to_owned(), |bytes| STANDARD.encode(bytes))
    }

    /// What was encrypted with one of the keys; `None` when no key fits: the text was never
    /// encrypted, or with a key that is not here. Without keys the text itself.
    pub fn decrypt(&self, text: &str) -> Option<String> {
        if self.is_empty() {
            return Some(text.to_owned());
        }
        let bytes = STANDARD.decode(text).ok()?;
        // With the wrong key one text of 256 ends in what looks like padding; it is hardly UTF-8.
        let plain = |key: &String| String::from_utf8(decrypt(key.as_bytes(), &bytes)?).ok();
        self.keys.iter().find_map(plain)
    }

    /// [`Self::encrypt`] for a private key in PEM form; anything else, which is encrypted already
    /// or refers to a secret, stays as it is.
    pub fn encrypt_pem(&self, text: &str) -> String {
        if text.starts_with(PEM) { self.encrypt(text) } else { text.to_owned() }
    }

    /// [`Self::decrypt`] for a private key, which may be in PEM form already.
    pub fn decrypt_pem(&self, text: &str) -> Option<String> {
        if text.starts_with(PEM) { Some(text.to_owned()) } else { self.decrypt(text) }
    }
}

fn encrypt(key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let iv = key.get(..IV_BYTES)?;
    if key.len() == IV_BYTES {
        let cipher = cbc::Encryptor::<Aes128>::new_from_slices(key, iv).ok()?;
        return Some(cipher.encrypt_padded_vec::<Pkcs7>(text));
    }
    let cipher = cbc::Encryptor::<Aes256>::new_from_slices(key, iv).ok()?;
    Some(cipher.encrypt_padded_vec::<Pkcs7>(text))
}

fn decrypt(key: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let iv = key.get(..IV_BYTES)?;
    if key.len() == IV_BYTES {
        let cipher = cbc::Decryptor::<Aes128>::new_from_slices(key, iv).ok()?;
        return cipher.decrypt_padded_vec::<Pkcs7>(bytes).ok();
    }
    let cipher = cbc::Decryptor::<Aes256>::new_from_slices(key, iv).ok()?;
    cipher.decrypt_padded_vec::<Pkcs7>(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The keys that APISIX ships with, which existing data is encrypted with.
    const SHORT: &str = "edd1c9f0985e76a2";
    const OTHER: &str = "qeddd145sfvddff3";
    const LONG: &str = "qeddd145sfvddff3qeddd145sfvddff3";

    fn ring(keys: &[&str]) -> Keyring {
        Keyring::new(keys.iter().map(|key| (*key).to_owned()).collect())
    }

    #[test]
    fn yields_what_openssl_yields() {
        // openssl enc -aes-128-cbc -K <key in hex> -iv <key in hex> -base64
        assert_eq!(ring(&[SHORT]).encrypt("hello"), "LCKYooz7HvQz0+wEf9+n8A==");
        assert_eq!(
            ring(&[SHORT, LONG]).encrypt("0123456789abcdef"),
            "uB5lc7bO3T325sSYkKpZM6bQ2Yb4ZwCTwDljNDbfVIo="
        );
        // openssl enc -aes-256-cbc -K <key in hex> -iv <first half in hex> -base64
        assert_eq!(ring(&[LONG, SHORT]).encrypt("hello"), "vhjYVldzUeh+RmRbLLuJsQ==");
    }

    #[test]
    fn every_key_decrypts() {
        let ring = ring(&[OTHER, LONG, SHORT]);
        assert_eq!(ring.decrypt("LCKYooz7HvQz0+wEf9+n8A==").as_deref(), Some("hello"));
        assert_eq!(ring.decrypt("vhjYVldzUeh+RmRbLLuJsQ==").as_deref(), Some("hello"));
        assert_eq!(ring.decrypt(&ring.encrypt("é")).as_deref(), Some("é"));
    }

    #[test]
    fn what_no_key_fits_is_told() {
        let ring = ring(&[OTHER]);
        for text in ["LCKYooz7HvQz0+wEf9+n8A==", "hello", "", "====", "aGVsbG8="] {
            assert_eq!(ring.decrypt(text), None, "{text}");
        }
    }

    #[test]
    fn without_keys_texts_stay() {
        for ring in [Keyring::default(), ring(&["short", "x".repeat(24).as_str()])] {
            assert!(ring.is_empty());
            assert_eq!(ring.encrypt("a"), "a");
            assert_eq!(ring.decrypt("a").as_deref(), Some("a"));
        }
    }

    #[test]
    fn only_pem_is_encrypted_as_a_private_key() {
        let ring = ring(&[SHORT]);
        let pem = "-----BEGIN PRIVATE KEY-----\n";
        let hidden = ring.encrypt_pem(pem);
        assert!(!hidden.starts_with("---"));
        assert_eq!(ring.encrypt_pem(&hidden), hidden);
        assert_eq!(ring.encrypt_pem("$secret://vault/1/key"), "$secret://vault/1/key");
        assert_eq!(ring.decrypt_pem(&hidden).as_deref(), Some(pem));
        assert_eq!(ring.decrypt_pem(pem).as_deref(), Some(pem));
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", ring(&[SHORT, LONG])), "Keyring(2 keys)");
    }

    proptest! {
        #[test]
        fn decrypts_what_it_encrypts(text in ".{0,200}", long in any::<bool>()) {
            let ring = ring(&[if long { LONG } else { SHORT }]);
            prop_assert_eq!(ring.decrypt(&ring.encrypt(&text)), Some(text));
        }

        #[test]
        fn any_text_is_decrypted_or_not(text in ".{0,100}", bytes in any::<Vec<u8>>()) {
            let ring = ring(&[LONG, SHORT]);
            let _ = ring.decrypt(&text);
            let _ = ring.decrypt(&STANDARD.encode(bytes));
        }
    }
}
