//! The HTTP endpoints beside gRPC: `/version`, `/health`, `/metrics`.

use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::json;
use tenure_api::ApiError;

use crate::exposition;
use crate::grpc;
use crate::handle::Handle;
use crate::version::{API_VERSION, STORAGE_VERSION, VERSION};

/// What Go's server says with every error, and etcd with every answer of a probe.
pub(crate) const NOSNIFF: (HeaderName, &str) = (HeaderName::from_static("x-content-type-options"), "nosniff");
/// A member that cannot confirm a read within this is not healthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The endpoints.
pub(crate) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/version", get(version).head(not_allowed).fallback(not_allowed))
        .route("/health", get(health).head(not_allowed).fallback(not_allowed))
        .route("/metrics", any(metrics))
        .with_state(handle)
}

/// etcd takes nothing but GET here, not even HEAD.
pub(crate) async fn not_allowed() -> Response {
    let headers = [(header::ALLOW, "GET"), NOSNIFF];
    (StatusCode::METHOD_NOT_ALLOWED, headers, "Method Not Allowed\n").into_response()
}

/// What is neither an endpoint nor a method: gRPC's answer to a client of gRPC, HTTP's to all others.
pub(crate) async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE);
    if content_type.is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc")) {
        grpc::unknown_service(uri.path()).into_http()
    } else {
        (StatusCode::NOT_FOUND, [NOSNIFF], "404 page not found\n").into_response()
    }
}

async fn version(State(handle): State<Handle>) -> Response {
    let has_leader = handle.shared.leadership.borrow().leader_id.is_some();
    let cluster = if has_leader { STORAGE_VERSION } else { "not_decided" };
    let body = json!({
        "etcdserver": API_VERSION, "etcdcluster": cluster, "storage": STORAGE_VERSION, "tenure": VERSION
    });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// etcd's health: there is a leader, and a read can be served. `serializable=true` asks this member alone.
async fn health(State(handle): State<Handle>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let is_serializable = query.iter().any(|(name, value)| name == "serializable" && value == "true");
    let excludes_room = query.iter().any(|(name, value)| name == "exclude" && value == "NOSPACE");
    let refuses_puts = async { handle.state().await.is_ok_and(|(_, status)| status.refuses_puts) };
    let reason = if !excludes_room && refuses_puts.await {
        Some("ALARM NOSPACE".to_owned())
    } else if handle.shared.leadership.borrow().leader_id.is_none() && !is_serializable {
        Some("RAFT NO LEADER".to_owned())
    } else {
        let read = async {
            if is_serializable { handle.state().await.map(drop) } else { handle.read().await.map(drop) }
        };
        match tokio::time::timeout(HEALTH_TIMEOUT, read).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("RANGE ERROR:{error}")),
            Err(_) => Some(format!("RANGE ERROR:{}", ApiError::Timeout)),
        }
    };
    match reason {
        // JSON in a plain text, as etcd has it.
        None => json!({ "health": "true", "reason": "" }).to_string().into_response(),
        Some(reason) => {
            let body = format!("{}\n", json!({ "health": "false", "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, [NOSNIFF], body).into_response()
        }
    }
}

async fn metrics(State(handle): State<Handle>) -> Response {
    match handle.state().await {
        Ok((_, status)) => {
            let text = handle.shared.metrics.text(&status);
            ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
