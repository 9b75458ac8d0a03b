//! The keys of the Admin API.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use osmia_core::settings::{AdminKey, AdminRole, AdminSettings};
use subtle::ConstantTimeEq;

/// The keys that APISIX's default configuration publishes.
const PUBLISHED: [&str; 2] =
    ["edd1c9f034335f136f87ad84b625c8f1", "4054f7cf07e344346cd3f287985e76a2"];

/// Random bytes of a generated key; it is written as twice as many hexadecimal digits.
const KEY_BYTES: usize = 16;

/// Only the owner of the process may read a generated key.
const KEY_MODE: u32 = 0o600;

/// Why there are no keys to start with.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file of a generated key cannot be read or written.
    #[error("the admin key file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of a generated key holds something else.
    #[error("the admin key file {} holds no key; remove it to have a new one made", .0.display())]
    NoKey(PathBuf),
    /// The system gives no random numbers.
    #[error("no random numbers for a new admin key: {0}")]
    Random(String),
}

/// All keys with their roles. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<[Entry]>);

struct Entry {
    name: String,
    key: String,
    role: AdminRole,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|entry| (&entry.name, entry.role))).finish()
    }
}

impl Keys {
    /// Takes the configured keys. Where `admin_key` is empty, or a key in it is, one is generated
    /// at the first start and kept in `data_dir/admin.key`.
    pub fn load(settings: &AdminSettings, data_dir: &Path) -> Result<Self, KeysError> {
        let default = AdminKey { name: "admin".to_owned(), key: None, role: AdminRole::Admin };
        let configured = match settings.keys.as_slice() {
            [] if settings.key_required => std::slice::from_ref(&default),
            keys => keys,
        };
        let mut generated = (0, 0);
        let mut entries = Vec::with_capacity(configured.len());
        for AdminKey { name, key, role } in configured {
            let key = match key.as_deref().filter(|key| !key.is_empty()) {
                Some(key) => configured_key(name, key),
                None => {
                    let (kind, number) = match role {
                        AdminRole::Admin => ("admin", &mut generated.0),
                        AdminRole::Viewer => ("viewer", &mut generated.1),
                    };
                    *number += 1;
                    generated_key(&key_file(data_dir, kind, *number))?
                }
            };
            entries.push(Entry { name: name.clone(), key, role: *role });
        }
        Ok(Self(entries.into()))
    }

    /// The name and role of a key. Takes the same time whichever key is given.
    pub(crate) fn find(&self, given: &str) -> Option<(&str, AdminRole)> {
        let mut found = None;
        for entry in self.0.iter() {
            if bool::from(entry.key.as_bytes().ct_eq(given.as_bytes())) && found.is_none() {
                found = Some((entry.name.as_str(), entry.role));
            }
        }
        found
    }
}

fn configured_key(name: &str, key: &str) -> String {
    if PUBLISHED.contains(&key) {
        tracing::warn!(
            "the admin key {name:?} is the one that APISIX publishes in its default configuration: \
             everybody knows it. Set deployment.admin.admin_key to another one"
        );
    }
    key.to_owned()
}

/// `admin.key` and `viewer.key`, and `admin.2.key` and so on should more keys of a role have to be
/// generated.
fn key_file(data_dir: &Path, role: &str, number: usize) -> PathBuf {
    match number {
        1 => data_dir.join(format!("{role}.key")),
        number => data_dir.join(format!("{role}.{number}.key")),
    }
}

/// Reads the key in the file, or generates one and keeps it there.
fn generated_key(path: &Path) -> Result<String, KeysError> {
    let failed = |source| KeysError::File { path: path.to_owned(), source };
    loop {
        match fs::read_to_string(path) {
            Ok(text) => return kept_key(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let key = random_key()?;
        match keep(path, &key) {
            Ok(()) => {
                tracing::info!("a new admin key was generated: it is in {}", path.display());
                return Ok(key);
            }
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn kept_key(path: &Path, text: &str) -> Result<String, KeysError> {
    let key = text.trim();
    if key.len() < KEY_BYTES || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(KeysError::NoKey(path.to_owned()));
    }
    let mode = fs::metadata(path).map_or(KEY_MODE, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            "the admin key file {} can be read by others: chmod 600 is advised",
            path.display()
        );
    }
    tracing::info!("the admin key is in {}", path.display());
    Ok(key.to_owned())
}

/// Writes the whole file under another name first, so that nobody ever reads half a key.
fn keep(path: &Path, key: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let written = write_new(&draft, key).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    written.and(removed)
}

fn write_new(path: &Path, key: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(KEY_MODE).open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

fn random_key() -> Result<String, KeysError> {
    let mut bytes = [0u8; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| KeysError::Random(error.to_string()))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn settings(keys: &[(&str, Option<&str>, AdminRole)]) -> AdminSettings {
        let key = |(name, key, role): &(&str, Option<&str>, AdminRole)| AdminKey {
            name: (*name).to_owned(),
            key: key.map(str::to_owned),
            role: *role,
        };
        AdminSettings { keys: keys.iter().map(key).collect(), ..testing::settings() }
    }

    #[test]
    fn a_key_is_generated_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Keys::load(&settings(&[]), &data).unwrap();
        let text = fs::read_to_string(data.join("admin.key")).unwrap();
        let key = text.trim();
        assert_eq!((key.len(), first.find(key)), (32, Some(("admin", AdminRole::Admin))));
        assert!(key.bytes().all(|b| b.is_ascii_hexdigit()));
        let mode = fs::metadata(data.join("admin.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        let second = Keys::load(&settings(&[]), &data).unwrap();
        assert!(second.find(key).is_some());
        let other = Keys::load(&settings(&[]), &dir.path().join("other")).unwrap();
        assert!(other.find(key).is_none());
        assert!(!format!("{first:?}").contains(key));
    }

    #[test]
    fn configured_keys_have_their_roles() {
        let dir = tempfile::tempdir().unwrap();
        let configured = [
            ("admin", Some(PUBLISHED[0]), AdminRole::Admin),
            ("viewer", Some("v"), AdminRole::Viewer),
        ];
        let keys = Keys::load(&settings(&configured), dir.path()).unwrap();
        assert_eq!(keys.find(PUBLISHED[0]), Some(("admin", AdminRole::Admin)));
        assert_eq!(keys.find("v"), Some(("viewer", AdminRole::Viewer)));
        for wrong in ["", "V", "vv", PUBLISHED[1]] {
            assert_eq!(keys.find(wrong), None, "{wrong}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_key_is_generated_for_its_entry() {
        let dir = tempfile::tempdir().unwrap();
        let configured = [
            ("viewer", Some(""), AdminRole::Viewer),
            ("root", None, AdminRole::Admin),
            ("second", None, AdminRole::Admin),
        ];
        let keys = Keys::load(&settings(&configured), dir.path()).unwrap();
        assert_eq!(keys.find(""), None);
        let key = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(keys.find(key("viewer.key").trim()), Some(("viewer", AdminRole::Viewer)));
        assert_eq!(keys.find(key("admin.key").trim()), Some(("root", AdminRole::Admin)));
        assert_eq!(keys.find(key("admin.2.key").trim()), Some(("second", AdminRole::Admin)));
    }

    #[test]
    fn a_file_without_a_key_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("admin.key"), "\n").unwrap();
        let error = Keys::load(&settings(&[]), dir.path()).unwrap_err();
        assert!(matches!(error, KeysError::NoKey(_)));
        assert!(error.to_string().contains("admin.key"));
        let file = dir.path().join("plain");
        fs::write(&file, "x").unwrap();
        let error = Keys::load(&settings(&[]), &file).unwrap_err();
        assert!(matches!(error, KeysError::File { .. }));
    }
}
