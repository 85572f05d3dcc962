//! `/livez` and `/readyz`: what Kubernetes asks. Each is a list of checks; each check has a path of its own, too.
//!
//! Source: etcd's documentation of its health checks; how it answers was seen at etcd 3.7.3.

use std::fmt::Write;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use crate::handle::Handle;
use crate::http::{NOSNIFF, not_allowed};

/// One thing that can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Check {
    /// The data of the members differ. No alarm says so yet, because nothing raises one.
    DataCorruption,
    /// This member's own state can be read.
    SerializableRead,
    /// The cluster agrees on what was written last, and this member has it.
    LinearizableRead,
    /// The member has a vote.
    NonLearner,
}

const LIVEZ: [Check; 1] = [Check::SerializableRead];
const READYZ: [Check; 4] =
    [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

/// The endpoints.
pub(crate) fn router(handle: Handle) -> Router {
    let router = [("/livez", &LIVEZ[..]), ("/readyz", &READYZ)].into_iter().fold(
        Router::new(),
        |router, (path, checks)| {
            let router = router.route(path, answers(checks, true));
            checks.iter().fold(router, |router, check| {
                router.route(&format!("{path}/{}", check.name()), answers(std::slice::from_ref(check), false))
            })
        },
    );
    router.with_state(handle)
}

/// Runs some checks; of a list, a request may exclude some.
fn answers(checks: &'static [Check], is_list: bool) -> MethodRouter<Handle> {
    let answer = move |State(handle): State<Handle>, Query(query): Query<Vec<(String, String)>>| async move {
        let is_excluded = |check: &Check| {
            is_list && query.iter().any(|(name, value)| name == "exclude" && value == check.name())
        };
        let is_verbose = query.iter().any(|(name, _)| name == "verbose");
        let (text, is_well) = run(&handle, checks.iter().filter(|check| !is_excluded(check))).await;
        respond(&text, is_well, is_verbose)
    };
    get(answer).head(not_allowed).fallback(not_allowed)
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, handle: &Handle) -> Result<(), String> {
        match self {
            Check::SerializableRead => handle.state().await.map(drop).map_err(|error| error.to_string()),
            Check::LinearizableRead => handle.read().await.map(drop).map_err(|error| error.to_string()),
            Check::NonLearner if handle.shared.leadership.borrow().is_learner => {
                Err("not supported for learner".to_owned())
            }
            Check::DataCorruption | Check::NonLearner => Ok(()),
        }
    }
}

/// A line for each check, and whether all are well.
async fn run(handle: &Handle, checks: impl Iterator<Item = &Check>) -> (String, bool) {
    let (mut text, mut is_well) = (String::new(), true);
    for check in checks {
        let name = check.name();
        let written = match check.run(handle).await {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(why) => {
                is_well = false;
                writeln!(text, "[-]{name} failed: {why}")
            }
        };
        written.expect("a String takes everything");
    }
    (text, is_well)
}

fn respond(text: &str, is_well: bool, is_verbose: bool) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), NOSNIFF];
    let (status, body) = match (is_well, is_verbose) {
        // What failed is told to everyone.
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")),
        (true, true) => (StatusCode::OK, format!("{text}ok\n")),
        (true, false) => (StatusCode::OK, "ok\n".to_owned()),
    };
    (status, headers, body).into_response()
}
