//! Arguments in the query string.

use super::reply::Reply;

/// The arguments, decoded, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

/// Longest time to live, in seconds: etcd's `MaxLeaseTTL`.
const TTL_MAX: f64 = 9_000_000_000.0;

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first argument of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A number, as `tonumber` of APISIX takes it; anything else counts as not given.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.trim().parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// `ttl`: seconds, rounded up.
    pub(crate) fn ttl(&self) -> Result<Option<u64>, Reply> {
        if self.get("ttl").is_none() {
            return Ok(None);
        }
        let refused = |reason: &str| Reply::bad(format!("invalid argument ttl: {reason}"));
        let seconds = self.number("ttl").ok_or_else(|| refused("should be a number"))?;
        if !(seconds > 0.0 && seconds <= TTL_MAX) {
            return Err(refused("should be greater than 0 and at most 9000000000"));
        }
        Ok(Some(seconds.ceil() as u64))
    }

    /// Whether `force` is exactly `true`.
    pub(crate) fn force(&self) -> bool {
        self.get("force") == Some("true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_is_a_number_of_seconds() {
        let ttl = |text: &str| Query::parse(Some(text)).ttl().map_err(|r| r.status.as_u16());
        assert_eq!(ttl("a=b"), Ok(None));
        assert_eq!(ttl("ttl=1"), Ok(Some(1)));
        assert_eq!(ttl("ttl=0.2"), Ok(Some(1)));
        for bad in ["ttl", "ttl=", "ttl=abc", "ttl=0", "ttl=-1", "ttl=1e30", "ttl=inf", "ttl=NaN"] {
            assert_eq!(ttl(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn force_is_the_exact_word() {
        assert!(Query::parse(Some("force=true")).force());
        for other in [None, Some("force"), Some("force=1"), Some("force=True")] {
            assert!(!Query::parse(other).force(), "{other:?}");
        }
    }

    #[test]
    fn arguments_are_decoded() {
        let query = Query::parse(Some("filter=service_id%3D1&name=a%20b+c&name=second"));
        assert_eq!(query.get("filter"), Some("service_id=1"));
        assert_eq!(query.get("name"), Some("a b c"));
        assert_eq!(query.number("page"), None);
    }
}
