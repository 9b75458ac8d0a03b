//! Which members of a collection are listed: filters and pages.

use fancy_regex::{Regex, RegexBuilder};
use osmia_core::resource::Kind;
use serde_json::Value;

use super::query::Query;
use super::refs::id_text;
use super::reply::Reply;
use crate::store::Item;

/// Steps that an expression may take back on one text: enough for any sensible one.
const BACKTRACK_MAX: usize = 100_000;
/// Longest expression, in bytes.
const EXPRESSION_MAX: usize = 4096;

/// Bounds of `page_size` (admin-api.md).
const PAGE_SIZES: std::ops::RangeInclusive<f64> = 10.0..=500.0;

/// The arguments of a list request.
#[derive(Debug)]
pub(crate) struct Selection {
    name: Option<Regex>,
    uri: Option<Regex>,
    label: Option<String>,
    /// Field and required value.
    fields: Vec<(String, String)>,
    /// Number of the page, from 1, and its size.
    page: Option<(usize, usize)>,
}

impl Selection {
    pub(crate) fn read(kind: Kind, query: &Query) -> Result<Self, Reply> {
        Ok(Self {
            name: expression(query, "name")?,
            uri: expression(query, "uri")?,
            label: query.get("label").map(str::to_owned),
            fields: fields(kind, query.get("filter").unwrap_or_default()),
            page: page(query)?,
        })
    }

    pub(crate) fn has_filters(&self) -> bool {
        let any = self.name.is_some() || self.uri.is_some() || self.label.is_some();
        any || !self.fields.is_empty()
    }

    pub(crate) fn matches(&self, value: &Value) -> bool {
        let name = |regex: &Regex| text_matches(regex, value.get("name"));
        let uri = |regex: &Regex| {
            let uris = value.get("uris").and_then(Value::as_array);
            text_matches(regex, value.get("uri"))
                || uris.is_some_and(|uris| uris.iter().any(|uri| text_matches(regex, Some(uri))))
        };
        let label = |key: &String| value.get("labels").is_some_and(|l| l.get(key).is_some());
        let field = |(name, wanted): &(String, String)| {
            value.get(name).and_then(id_text).is_some_and(|found| found == *wanted)
        };
        self.name.as_ref().is_none_or(name)
            && self.uri.as_ref().is_none_or(uri)
            && self.label.as_ref().is_none_or(label)
            && self.fields.iter().all(field)
    }

    /// The members of the page, by age; all in the order of their keys when no page is asked for.
    pub(crate) fn page<'a>(&self, members: &'a mut [Item]) -> &'a [Item] {
        let Some((number, size)) = self.page else { return members };
        members.sort_by_key(|item| item.created);
        let from = (number - 1).saturating_mul(size).min(members.len());
        &members[from..from.saturating_add(size).min(members.len())]
    }
}

fn text_matches(regex: &Regex, value: Option<&Value>) -> bool {
    // An expression that takes too many steps on a text counts as not matching it.
    value.and_then(Value::as_str).is_some_and(|text| regex.is_match(text).unwrap_or(false))
}

fn expression(query: &Query, argument: &str) -> Result<Option<Regex>, Reply> {
    let Some(pattern) = query.get(argument) else { return Ok(None) };
    let refused = |reason: &str| Reply::bad(format!("invalid argument {argument}: {reason}"));
    if pattern.len() > EXPRESSION_MAX {
        return Err(refused("the regular expression is too long"));
    }
    RegexBuilder::new(pattern)
        .backtrack_limit(BACKTRACK_MAX)
        .build()
        .map(Some)
        .map_err(|error| refused(&error.to_string()))
}

/// `filter`: pairs like a query string. Fields that cannot be filtered by are passed over, the last
/// of several values counts, as in APISIX.
fn fields(kind: Kind, filter: &str) -> Vec<(String, String)> {
    let known: &[&str] = match kind {
        Kind::Route | Kind::StreamRoute => &["service_id", "upstream_id"],
        _ => &[],
    };
    let mut fields: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(filter.as_bytes()) {
        if !known.contains(&name.as_ref()) {
            continue;
        }
        fields.retain(|(other, _)| *other != name);
        fields.push((name.into_owned(), value.into_owned()));
    }
    fields
}

/// Both numbers must be given, else there are no pages.
fn page(query: &Query) -> Result<Option<(usize, usize)>, Reply> {
    let (Some(page), Some(size)) = (query.number("page"), query.number("page_size")) else {
        return Ok(None);
    };
    if !PAGE_SIZES.contains(&size) {
        let text = "page_size must be between 10 and 500";
        return Err(Reply::text(axum::http::StatusCode::BAD_REQUEST, text));
    }
    Ok(Some((page.max(1.0) as usize, size as usize)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selection(query: &str) -> Selection {
        Selection::read(Kind::Route, &Query::parse(Some(query))).unwrap()
    }

    #[test]
    fn filters_are_all_to_match() {
        let route = json!({
            "name": "shop-1", "uris": ["/a", "/basket"], "labels": {"env": "prod"}, "service_id": 7,
        });
        for (query, found) in [
            ("", true),
            ("name=shop", true),
            ("name=%5Eshop-(?%3D1)", true),
            ("name=other", false),
            ("uri=basket", true),
            ("uri=%5Eb", false),
            ("label=env", true),
            ("label=prod", false),
            ("label=", false),
            ("filter=service_id%3D7", true),
            ("filter=service_id%3D8", false),
            ("filter=service_id%3D8%26service_id%3D7", true),
            ("filter=upstream_id%3D1", false),
            ("filter=unknown%3D1", true),
            ("name=shop&label=none", false),
        ] {
            assert_eq!(selection(query).matches(&route), found, "{query}");
        }
        assert!(!selection("name=x").matches(&json!({})));
        assert!(!selection("name=x").matches(&json!("text")));
    }

    #[test]
    fn expressions_that_are_wrong_or_endless_do_no_harm() {
        let query = Query::parse(Some("name=("));
        assert_eq!(Selection::read(Kind::Route, &query).unwrap_err().status.as_u16(), 400);
        let endless = selection("name=%5E(a%2B)%2B(%3F!x)%5C1%24");
        assert!(!endless.matches(&json!({"name": format!("{}!", "a".repeat(40))})));
    }

    #[test]
    fn pages_are_by_age() {
        let item = |created: u64| Item {
            path: format!("routes/{}", 100 - created),
            value: bytes::Bytes::new(),
            created,
            modified: created,
        };
        let mut members: Vec<Item> = (1..=25).rev().map(item).collect();
        let mut created = |query: &str| {
            let page = selection(query);
            page.page(&mut members).iter().map(|item| item.created).collect::<Vec<_>>()
        };
        assert_eq!(created("page=1&page_size=10"), (1..=10).collect::<Vec<_>>());
        assert_eq!(created("page=3&page_size=10"), (21..=25).collect::<Vec<_>>());
        assert_eq!(created("page=4&page_size=10"), [0u64; 0]);
        assert_eq!(created("page=-1&page_size=10").len(), 10);
        assert_eq!(created("page=1e300&page_size=10").len(), 0);
        assert_eq!(created("page=1").len(), 25);
    }

    #[test]
    fn page_sizes_have_bounds() {
        for size in ["2", "9", "501", "-1"] {
            let query = Query::parse(Some(&format!("page=1&page_size={size}")));
            let reply = Selection::read(Kind::Route, &query).unwrap_err();
            assert_eq!(reply.body, b"page_size must be between 10 and 500");
        }
    }
}
