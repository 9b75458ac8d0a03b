//! APISIX's encryption of sensitive fields at rest (`apisix.data_encryption`).

/// Keys for sensitive fields: the first encrypts, all are tried to decrypt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<String>,
}

impl Keyring {
    /// A keyring of keys of 16 or 32 bytes; empty: fields are stored as they are.
    pub fn new(keys: Vec<String>) -> Self {
        Self { keys }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
