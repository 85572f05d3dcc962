//! From endpoints to an answer, and from a failure to a message that says what to do next.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tenure_api::ApiError;
use tenure_api::error::REASON;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::options::Options;
use super::{Failure, exit};

/// Whether a request that got no answer may have been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing to execute: it is sent to the next endpoint when one is unavailable.
    Read,
    /// Sent once; a lost answer leaves its outcome unknown.
    Write,
}

/// Sends a request to the first endpoint that answers.
pub(crate) async fn request<T>(
    options: &Options,
    kind: Kind,
    call: impl AsyncFn(Channel) -> Result<T, Status>,
) -> Result<T, Failure> {
    let mut failures = Vec::new();
    for endpoint in &options.endpoints {
        match connect(options, endpoint).await {
            Err(reason) => failures.push(format!("{endpoint}: {reason}")),
            Ok(channel) => match with_deadline(options.command_timeout, call(channel)).await {
                Ok(answer) => return Ok(answer),
                Err(status) if kind == Kind::Read && status.code() == Code::Unavailable => {
                    failures.push(format!("{endpoint}: {}", describe(&status)));
                }
                Err(status) => return Err(refused(endpoint, kind, &status)),
            },
        }
    }
    Err(Failure::new(exit::ERROR, nobody_answers(&failures)))
}

/// Sends a request to exactly this endpoint, or says why there is no answer.
pub(crate) async fn request_of<T>(
    options: &Options,
    endpoint: &str,
    call: impl AsyncFn(Channel) -> Result<T, Status>,
) -> Result<T, String> {
    let channel = connect(options, endpoint).await?;
    with_deadline(options.command_timeout, call(channel)).await.map_err(|status| describe(&status))
}

async fn with_deadline<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let too_late = |_| Status::deadline_exceeded(format!("no answer within {timeout:?}"));
    tokio::time::timeout(timeout, call).await.map_err(too_late)?
}

/// A connection, or why there is none.
async fn connect(options: &Options, endpoint: &str) -> Result<Channel, String> {
    let uri = match endpoint.trim().split_once("://") {
        None => format!("http://{}", endpoint.trim()),
        Some(("http", _)) => endpoint.trim().to_owned(),
        Some((scheme, _)) => return Err(format!("{scheme}:// is not supported, use http://")),
    };
    let builder = Endpoint::from_shared(uri).map_err(|error| root_cause(&error))?;
    // HTTP's own, 80, is never meant.
    if builder.uri().port_u16().is_none_or(|port| port == 0) {
        return Err("the port is missing: expected host:port".to_owned());
    }
    let builder = builder
        .http2_keep_alive_interval(options.keepalive_time)
        .keep_alive_timeout(options.keepalive_timeout);
    match tokio::time::timeout(options.dial_timeout, builder.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(root_cause(&error)),
        Err(_) => Err(format!("no connection within {:?}", options.dial_timeout)),
    }
}

/// The innermost cause: "Connection refused" where tonic says "transport error".
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn nobody_answers(failures: &[String]) -> String {
    let lines = failures.join("\n  ");
    format!(
        "no endpoint answers\n  {lines}\n\
         Is a member running there? `tenure dev` starts three on this machine; \
         --endpoints or TENURE_ENDPOINTS names other ones."
    )
}

/// The text that etcdctl shows for a status, and, behind it, the reason if the server gave one.
fn describe(status: &Status) -> String {
    let reason = status.metadata().get(REASON).and_then(|reason| reason.to_str().ok());
    let text = describe_as_etcdctl(status);
    reason.map_or_else(|| text.clone(), |reason| format!("{text}: {reason}"))
}

fn describe_as_etcdctl(status: &Status) -> String {
    // Those with etcd's prefix have names in etcd's own client, which shows no code with them.
    let is_named = ApiError::from_message(status.message()).is_some();
    if is_named && status.message().starts_with("etcdserver: ") {
        status.message().to_owned()
    } else if status.code() == Code::DeadlineExceeded {
        format!("context deadline exceeded ({})", status.message())
    } else if status.source().is_some() {
        format!("the connection was lost ({})", root_cause(status))
    } else {
        format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
    }
}

fn refused(endpoint: &str, kind: Kind, status: &Status) -> Failure {
    let mut message = describe(status);
    let outcome_unknown =
        status.code() == Code::DeadlineExceeded || status.source().is_some() || is_timeout(status);
    if outcome_unknown {
        if kind == Kind::Write {
            message.push_str("\nThe write may have been done all the same: read before you repeat it.");
        }
        message.push_str("\n`tenure status --endpoints ");
        message.push_str(endpoint);
        message.push_str("` shows whether there is a leader; --command-timeout waits longer.");
    }
    Failure::new(exit::ERROR, message)
}

/// Whether the server gave up waiting: then the write may be in the log.
fn is_timeout(status: &Status) -> bool {
    matches!(
        ApiError::from_message(status.message()),
        Some(
            ApiError::Timeout
                | ApiError::TimeoutDueToLeaderFail
                | ApiError::TimeoutDueToConnectionLost
                | ApiError::TimeoutWaitAppliedIndex
                | ApiError::Stopped
        )
    )
}

#[cfg(test)]
mod tests;
