//! Connections to etcd's members: which there are, how one is opened, and how a member that no
//! longer answers is told from one that is busy.

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use etcd_client::{
    Channel, Client, ConnectOptions, Error, KvClient, LeaseClient, MaintenanceClient, WatchClient,
};
use osmia_core::settings::EtcdSettings;
use tokio::time::{sleep, timeout};
use tonic::{Code, ConnectError, Status};

use super::tls;
use super::transport::Member;
use crate::store::StoreError;

/// For a new connection, its TLS, the login and the first answer.
const DIAL: Duration = Duration::from_millis(2_500);
/// A request without an answer for this long makes us ask whether the member is still there.
const PATIENCE: Duration = Duration::from_secs(1);
/// For the answer to that question.
const SIGN_OF_LIFE: Duration = Duration::from_millis(1_500);
/// Between TCP's own signs of life, which etcd does not count.
const TCP_KEEPALIVE: Duration = Duration::from_secs(5);
/// Largest message taken from etcd. Pages are kept near `load::PAGE_BYTES`; what can be larger is a
/// page of a few huge values, or a watcher's backlog (up to 1,000 revisions in one message).
const MESSAGE_BYTES: usize = 256 << 20;

/// The members, and how to speak with them.
pub(super) struct Dialer {
    members: Vec<(String, Member)>,
    credentials: Option<(String, String)>,
    /// `deployment.etcd.timeout`: for one request.
    pub(super) timeout: Duration,
}

impl Dialer {
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, StoreError> {
        let wrong = |reason: String| StoreError::Refused(format!("deployment.etcd.host: {reason}"));
        let https = settings.endpoints.iter().any(|url| url.starts_with("https://"));
        let tls = if https { Some(Arc::new(tls::config(settings)?)) } else { None };
        let mut members = Vec::new();
        for url in &settings.endpoints {
            let uri: Uri = url.parse().map_err(|error| wrong(format!("{url}: {error}")))?;
            let tls = match (uri.scheme_str(), &tls) {
                (Some("https"), Some(tls)) => Some((Arc::clone(tls), settings.server_name.clone())),
                (Some("http"), _) => None,
                _ => return Err(wrong(format!("{url}: neither http:// nor https://"))),
            };
            let member =
                Member::new(&uri, tls).map_err(|reason| wrong(format!("{url}: {reason}")))?;
            members.push((url.clone(), member));
        }
        if members.is_empty() {
            return Err(wrong("there is no endpoint".to_owned()));
        }
        let credentials = settings.credentials.clone();
        Ok(Self { members, credentials, timeout: settings.timeout })
    }

    /// Number of endpoints, at least one.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// For messages: all endpoints.
    pub(super) fn names(&self) -> String {
        let urls: Vec<&str> = self.members.iter().map(|(url, _)| url.as_str()).collect();
        urls.join(", ")
    }

    /// Connects to one member, counted modulo their number, and makes sure that it can serve: it
    /// answers, has a leader and is no learner.
    pub(super) async fn dial(&self, member: usize) -> Result<Connection, String> {
        let Some((url, at)) = self.members.get(member % self.members.len()) else {
            return Err("there is no endpoint".to_owned());
        };
        match timeout(DIAL, self.open(url, at)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(reason)) => Err(format!("{url}: {reason}")),
            Err(_) => Err(format!("{url}: no answer within {} s", DIAL.as_secs_f32())),
        }
    }

    async fn open(&self, url: &str, member: &Member) -> Result<Connection, String> {
        let channel = Channel::Custom(member.connect(TCP_KEEPALIVE).await?);
        // With `require_leader` etcd refuses at once what it could not do, and ends a watch when
        // its member is cut off from the leader.
        let options = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
        let client = match &self.credentials {
            None => Client::from_channel(channel, Some(options)).await,
            Some((user, password)) => {
                let login = options.clone().with_user(user, password);
                match Client::from_channel(channel.clone(), Some(login)).await {
                    Err(Error::GRpcStatus(status)) if status.message().contains(AUTH_IS_OFF) => {
                        tracing::debug!("etcd at {url}: {AUTH_IS_OFF}; going on without the login");
                        Client::from_channel(channel, Some(options)).await
                    }
                    other => other,
                }
            }
        }
        .map_err(|error| Failure::from(error).to_string())?;
        let connection = Connection {
            url: url.to_owned(),
            kv: client.kv_client().max_decoding_message_size(MESSAGE_BYTES),
            watch: client.watch_client().max_decoding_message_size(MESSAGE_BYTES),
            lease: client.lease_client(),
            maintenance: client.maintenance_client(),
        };
        match connection.maintenance.clone().status().await {
            Ok(status) if status.is_learner() => Err("the member is a learner".to_owned()),
            Ok(_) => Ok(connection),
            Err(Error::GRpcStatus(status)) if status.code() == Code::PermissionDenied => {
                Ok(connection) // it answers, and that was the question
            }
            Err(error) => Err(Failure::from(error).to_string()),
        }
    }
}

/// etcd's answer to a login when it knows no users.
const AUTH_IS_OFF: &str = "authentication is not enabled";

/// A connection to one member.
pub(super) struct Connection {
    pub(super) url: String,
    pub(super) kv: KvClient,
    pub(super) watch: WatchClient,
    pub(super) lease: LeaseClient,
    maintenance: MaintenanceClient,
}

impl Connection {
    /// Runs a request for at most `limit`. When it takes long, the member is asked for a sign of
    /// life on the same connection, so that a member that is stopped or cut off is noticed after
    /// seconds while one that is merely slow is waited for. HTTP/2's own pings would do the same,
    /// but etcd ends connections that ping more often than every 5 s
    /// (`--grpc-keepalive-min-time`).
    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let mut request = pin!(request);
        let watchdog = async {
            loop {
                sleep(PATIENCE).await;
                let mut maintenance = self.maintenance.clone();
                // On the heap: each request would have to carry it.
                let status = Box::pin(maintenance.status());
                match timeout(SIGN_OF_LIFE, status).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => match Failure::from(error) {
                        Failure::Answer { .. } => {}
                        Failure::NotSent(reason) | Failure::Unanswered(reason) => return reason,
                    },
                    Err(_) => return format!("{} does not answer", self.url),
                }
            }
        };
        tokio::select! {
            biased;
            answer = &mut request => answer.map_err(Failure::from),
            reason = watchdog => Err(Failure::Unanswered(reason)),
            () = sleep(limit) => {
                let limit = limit.as_secs_f32();
                Err(Failure::Unanswered(format!("{}: no answer within {limit} s", self.url)))
            }
        }
    }
}

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// It certainly did nothing: no connection, or a member without a leader.
    #[error("{0}")]
    NotSent(String),
    /// Nobody knows whether it did anything.
    #[error("{0}")]
    Unanswered(String),
    /// etcd refused it.
    #[error("{message}")]
    Answer {
        /// gRPC's code.
        code: Code,
        /// etcd's reason: `etcdserver: permission denied`.
        message: String,
    },
}

impl Failure {
    /// etcd refused it with this code and a reason that contains `text`.
    pub(super) fn says(&self, text: &str) -> bool {
        matches!(self, Self::Answer { message, .. } if message.contains(text))
    }

    /// etcd would not do it, and certainly did nothing. Other answers, as that a proposal timed out
    /// or that the leader changed, leave open whether it was done.
    pub(super) fn is_refusal(&self) -> bool {
        use Code::{InvalidArgument, OutOfRange, PermissionDenied, ResourceExhausted};
        let Self::Answer { code, .. } = self else { return false };
        matches!(code, InvalidArgument | OutOfRange | PermissionDenied | ResourceExhausted)
    }

    /// The revision asked for is compacted or in the future, or the message is too large for us.
    pub(super) fn is_out_of_range(&self) -> bool {
        matches!(self, Self::Answer { code: Code::OutOfRange, .. })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::from(status),
            Error::TransportError(error) => Self::Unanswered(deepest(&error)),
            other => Self::Unanswered(other.to_string()),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let mut cause = status.source();
        while let Some(error) = cause {
            if error.is::<ConnectError>() {
                return Self::NotSent(deepest(error));
            }
            cause = error.source();
        }
        if let Some(error) = status.source() {
            return Self::Unanswered(deepest(error));
        }
        let message = status.message().to_owned();
        if message.contains("etcdserver: no leader") {
            return Self::NotSent(message);
        }
        Self::Answer { code: status.code(), message }
    }
}

/// The text of the innermost cause: `Connection refused (os error 111)` rather than
/// `transport error`.
pub(super) fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_did_nothing_is_a_refusal() {
        let answer = |code, message: &str| Failure::from(Status::new(code, message)).is_refusal();
        assert!(answer(Code::InvalidArgument, "etcdserver: too many operations in txn request"));
        assert!(answer(Code::PermissionDenied, "etcdserver: permission denied"));
        assert!(answer(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"));
        assert!(!answer(Code::Unavailable, "etcdserver: request timed out"));
        assert!(!answer(Code::Unavailable, "etcdserver: leader changed"));
        assert!(!answer(Code::Unknown, "?"));
        assert!(!Failure::Unanswered("gone".to_owned()).is_refusal());
    }
}
