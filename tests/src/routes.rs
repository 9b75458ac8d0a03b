//! Which route of a snapshot a request would take.

use std::sync::Arc;

use osmia_core::http1::RequestHead;
use osmia_core::limits::HttpLimits;
use osmia_core::request::{RequestVariables, View, ViewOptions};
use osmia_core::router::Hit;
use osmia_core::snapshot::{Route, Snapshot};

/// The route for a `GET` of `path` at `host`.
pub fn find(snapshot: &Snapshot, host: &str, path: &str) -> Option<Arc<Route>> {
    let buf = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let mut request = RequestHead::default();
    assert_eq!(request.parse(&buf, &HttpLimits::default()), Ok(true), "{host}{path}");
    let view = View::new(RequestVariables::local(&request, &buf), &ViewOptions::default()).unwrap();
    match snapshot.router.find(&view, &mut ())? {
        Hit::Matched(matched) => Some(Arc::clone(matched.route)),
        Hit::NeedsBody => None,
    }
}
