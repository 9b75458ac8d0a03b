//! Hosts as one test among others, where they are not looked up first.

use super::request::Request;

/// Whether the request's host is one of `hosts` (lower case, `*` for any beginning); without hosts
/// any is. One that names a port is held against the host as received (lua-resty-radixtree).
pub(super) fn matches(hosts: &[Box<str>], request: &impl Request) -> bool {
    hosts.is_empty()
        || hosts.iter().any(|wanted| {
            let has_port = wanted.contains(':');
            let host = if has_port { request.full_host() } else { request.host() };
            match wanted.strip_prefix('*') {
                Some(suffix) => {
                    let cut = host.len().checked_sub(suffix.len());
                    cut.is_some_and(|cut| host[cut..].eq_ignore_ascii_case(suffix.as_bytes()))
                }
                None => host.eq_ignore_ascii_case(wanted.as_bytes()),
            }
        })
}
