//! Sets of HTTP methods.

/// The methods a route can name (APISIX: `schema_def.lua`, `method_schema`).
pub const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"];

/// Which methods a route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MethodSet(u16);

impl MethodSet {
    /// Every method, known or not.
    pub const ANY: Self = Self(0);

    /// The set of the named methods; no name: every method. Names that are not in [`METHODS`] add
    /// nothing.
    pub fn of<S: AsRef<str>>(names: &[S]) -> Self {
        Self(names.iter().fold(0, |bits, name| bits | bit(name.as_ref())))
    }

    /// Whether requests with this method match.
    pub fn contains(self, method: &str) -> bool {
        self.0 == 0 || self.0 & bit(method) != 0
    }
}

/// The bit of a method; zero when it is not a known one. Methods are case-sensitive (RFC 9110,
/// section 9.1).
fn bit(method: &str) -> u16 {
    match METHODS.iter().position(|known| *known == method) {
        Some(index) => 1 << index,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_set_takes_every_method() {
        assert!(MethodSet::ANY.contains("GET"));
        assert!(MethodSet::of::<&str>(&[]).contains("PROPFIND"));
    }

    #[test]
    fn named_methods_only() {
        let set = MethodSet::of(&["GET", "PURGE"]);
        assert!(set.contains("GET") && set.contains("PURGE"));
        assert!(!set.contains("POST") && !set.contains("get") && !set.contains("PROPFIND"));
    }

    #[test]
    fn every_known_method_has_its_own_bit() {
        for method in METHODS {
            let set = MethodSet::of(&[method]);
            let matching: Vec<_> = METHODS.iter().filter(|other| set.contains(other)).collect();
            assert_eq!(matching, [&method]);
        }
    }
}
