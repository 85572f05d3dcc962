//! The one table of errors: what a client of etcd v3 gets to see when a request fails.
//!
//! Clients tell errors apart by the text, not only by the code (clientv3 looks the whole text up in a map,
//! others search for parts of it), so both are etcd's to the letter. A write that is refused with
//! [`ApiError::LeaderChanged`] or [`ApiError::NoLeader`] is repeated by clients: use these two only where the
//! write was certainly not done, and a timeout or [`ApiError::Stopped`] where that is not known.
//!
//! Source: etcd 3.7.3, `api/v3rpc/rpctypes/error.go`; `tests/etcd_3_7_3_errors.tsv` was taken from there.

use tenure_replica::{ChangeRefusal, Failure};
use tenure_store::Rejection;
use tonic::{Code, Status};

macro_rules! table {
    ($($variant:ident, $code:ident, $message:literal;)+) => {
        /// An error of the etcd v3 API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
        pub enum ApiError {
            $(
                #[doc = concat!(stringify!($code), ": `", $message, "`")]
                #[error($message)]
                $variant,
            )+
        }

        impl ApiError {
            /// Every error there is.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The gRPC status code.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$variant => Code::$code,)+
                }
            }

            /// The text, which clients match on.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)+
                }
            }
        }
    };
}

table! {
    // Requests on keys.
    EmptyKey, InvalidArgument, "etcdserver: key is not provided";
    KeyNotFound, InvalidArgument, "etcdserver: key not found";
    ValueProvided, InvalidArgument, "etcdserver: value is provided";
    LeaseProvided, InvalidArgument, "etcdserver: lease is provided";
    TooManyOps, InvalidArgument, "etcdserver: too many operations in txn request";
    DuplicateKey, InvalidArgument, "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion, InvalidArgument, "etcdserver: invalid client api version";
    InvalidSortOption, InvalidArgument, "etcdserver: invalid sort option";
    Compacted, OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FutureRevision, OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    NoSpace, ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    RangeStreamSortOrder, Unimplemented, "RangeStream does not support custom sort orders";
    RangeStreamRevisionFilter, Unimplemented, "RangeStream does not support revision filters";

    // Leases.
    LeaseNotFound, NotFound, "etcdserver: requested lease not found";
    LeaseExist, FailedPrecondition, "etcdserver: lease already exists";
    LeaseTtlTooLarge, OutOfRange, "etcdserver: too large lease TTL";

    // Watches.
    WatchCanceled, Cancelled, "etcdserver: watch canceled";

    // Members.
    MemberExist, FailedPrecondition, "etcdserver: member ID already exist";
    PeerUrlExist, FailedPrecondition, "etcdserver: Peer URLs already exists";
    MemberNotEnoughStarted, FailedPrecondition,
        "etcdserver: re-configuration failed due to not enough started members";
    MemberBadUrls, InvalidArgument, "etcdserver: given member URLs are invalid";
    MemberNotFound, NotFound, "etcdserver: member not found";
    MemberNotLearner, FailedPrecondition, "etcdserver: can only promote a learner member";
    LearnerNotReady, FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners, FailedPrecondition, "etcdserver: too many learner members in cluster";
    ClusterIdMismatch, FailedPrecondition, "etcdserver: cluster ID mismatch";

    // Size and load.
    RequestTooLarge, InvalidArgument, "etcdserver: request is too large";
    TooManyRequests, ResourceExhausted, "etcdserver: too many requests";

    // Users, roles, permissions.
    RootUserNotExist, FailedPrecondition, "etcdserver: root user does not exist";
    RootRoleNotExist, FailedPrecondition, "etcdserver: root user does not have root role";
    UserAlreadyExist, FailedPrecondition, "etcdserver: user name already exists";
    UserEmpty, InvalidArgument, "etcdserver: user name is empty";
    UserNotFound, FailedPrecondition, "etcdserver: user name not found";
    RoleAlreadyExist, FailedPrecondition, "etcdserver: role name already exists";
    RoleNotFound, FailedPrecondition, "etcdserver: role name not found";
    RoleEmpty, InvalidArgument, "etcdserver: role name is empty";
    AuthFailed, InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    PermissionNotGiven, InvalidArgument, "etcdserver: permission not given";
    PermissionDenied, PermissionDenied, "etcdserver: permission denied";
    RoleNotGranted, FailedPrecondition, "etcdserver: role is not granted to the user";
    PermissionNotGranted, FailedPrecondition, "etcdserver: permission is not granted to the role";
    AuthNotEnabled, FailedPrecondition, "etcdserver: authentication is not enabled";
    InvalidAuthToken, Unauthenticated, "etcdserver: invalid auth token";
    InvalidAuthMgmt, InvalidArgument, "etcdserver: invalid auth management";
    AuthOldRevision, InvalidArgument, "etcdserver: revision of auth store is old";

    // The state of the cluster.
    NoLeader, Unavailable, "etcdserver: no leader";
    NotLeader, FailedPrecondition, "etcdserver: not leader";
    LeaderChanged, Unavailable, "etcdserver: leader changed";
    NotCapable, FailedPrecondition, "etcdserver: not capable";
    Stopped, Unavailable, "etcdserver: server stopped";
    Timeout, Unavailable, "etcdserver: request timed out";
    TimeoutDueToLeaderFail, Unavailable,
        "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutDueToConnectionLost, Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex, Unavailable,
        "etcdserver: request timed out, waiting for the applied index took too long";
    TimeoutLeaderTransfer, Unknown, "etcdserver: request timed out, leader transfer took too long";
    Unhealthy, Unavailable, "etcdserver: unhealthy cluster";
    Corrupt, DataLoss, "etcdserver: corrupt cluster";
    NotSupportedForLearner, FailedPrecondition, "etcdserver: rpc not supported for learner";
    BadLeaderTransferee, FailedPrecondition, "etcdserver: bad leader transferee";

    // Downgrades.
    WrongDowngradeVersionFormat, InvalidArgument, "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTargetVersion, InvalidArgument, "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable, FailedPrecondition,
        "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess, FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade, FailedPrecondition, "etcdserver: no inflight downgrade job";

    // The caller's own doing.
    Canceled, Cancelled, "etcdserver: request canceled";
    DeadlineExceeded, DeadlineExceeded, "etcdserver: context deadline exceeded";
}

impl ApiError {
    /// The error with this text, if it is one of etcd's: what a client makes of a status that it received.
    pub fn from_message(message: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|error| error.message() == message)
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Self::new(error.code(), error.message())
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::EmptyKey => Self::EmptyKey,
            Rejection::KeyNotFound => Self::KeyNotFound,
            Rejection::ValueProvided => Self::ValueProvided,
            Rejection::LeaseProvided => Self::LeaseProvided,
            Rejection::LeaseNotFound => Self::LeaseNotFound,
            Rejection::TooManyOps => Self::TooManyOps,
            Rejection::DuplicateKey => Self::DuplicateKey,
            Rejection::Compacted => Self::Compacted,
            Rejection::FutureRevision => Self::FutureRevision,
            Rejection::InvalidSortOption => Self::InvalidSortOption,
            // As in etcd: who was removed is not there.
            Rejection::MemberRemoved => Self::MemberNotFound,
        }
    }
}

impl From<&ChangeRefusal> for ApiError {
    fn from(refusal: &ChangeRefusal) -> Self {
        match refusal {
            ChangeRefusal::MemberNotFound => Self::MemberNotFound,
            ChangeRefusal::PeerUrlExists => Self::PeerUrlExist,
            ChangeRefusal::NotALearner => Self::MemberNotLearner,
            ChangeRefusal::NotCaughtUp => Self::LearnerNotReady,
            ChangeRefusal::TooManyLearners => Self::TooManyLearners,
            ChangeRefusal::NoVoters => Self::MemberNotEnoughStarted,
            ChangeRefusal::WouldLoseQuorum { .. } | ChangeRefusal::Unsafe { .. } => Self::Unhealthy,
        }
    }
}

/// In the metadata of an answer: why, where etcd's text says too little to act on. The text itself stays etcd's,
/// since clients look the whole of it up.
pub const REASON: &str = "tenure-reason";

/// The status of a change of the members that was refused: etcd's, and, beside it, the reason.
pub fn refused_change(refusal: &ChangeRefusal) -> Status {
    let mut status = Status::from(ApiError::from(refusal));
    match refusal {
        ChangeRefusal::WouldLoseQuorum { .. } | ChangeRefusal::Unsafe { .. } => {
            // What a refusal says is plain text.
            if let Ok(reason) = refusal.to_string().parse() {
                status.metadata_mut().insert(REASON, reason);
            }
        }
        ChangeRefusal::MemberNotFound
        | ChangeRefusal::PeerUrlExists
        | ChangeRefusal::NotALearner
        | ChangeRefusal::NotCaughtUp
        | ChangeRefusal::TooManyLearners
        | ChangeRefusal::NoVoters => {}
    }
    status
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoLeader => Self::NoLeader,
            Failure::LeaderChanged => Self::LeaderChanged,
            Failure::TooManyRequests => Self::TooManyRequests,
            Failure::TooLarge => Self::RequestTooLarge,
            Failure::NoSpace => Self::NoSpace,
            // As in etcd: not every member is of a version that can do it.
            Failure::Unsupported => Self::NotCapable,
            Failure::TimedOut => Self::Timeout,
            Failure::TimedOutLeaderFailed => Self::TimeoutDueToLeaderFail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line an error: its name in etcd, code, text.
    const OF_ETCD: &str = include_str!("../tests/etcd_3_7_3_errors.tsv");
    /// Errors that etcd sends without a name in its table (`server/etcdserver/api/v3rpc`).
    const UNNAMED: [(&str, &str); 3] = [
        ("Unimplemented", "RangeStream does not support custom sort orders"),
        ("Unimplemented", "RangeStream does not support revision filters"),
        ("Unknown", "etcdserver: request timed out, leader transfer took too long"),
    ];

    fn rows_of_etcd() -> Vec<(&'static str, &'static str)> {
        let named = OF_ETCD.lines().map(|line| {
            let (_name, rest) = line.split_once('\t').expect("three columns");
            rest.split_once('\t').expect("three columns")
        });
        named.chain(UNNAMED).collect()
    }

    #[test]
    fn codes_and_texts_are_those_of_etcd() {
        // Go spells the code `Canceled`, tonic `Cancelled`; it is number 1 to both.
        let name = |code: Code| format!("{code:?}").replace("Cancelled", "Canceled");
        let mut ours: Vec<_> =
            ApiError::ALL.iter().map(|error| (name(error.code()), error.message())).collect();
        let mut theirs: Vec<_> =
            rows_of_etcd().into_iter().map(|(code, text)| (code.to_owned(), text)).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
        assert_eq!(ours.len(), 66);
    }

    #[test]
    fn what_was_certainly_not_done_and_what_is_unknown_have_errors_of_their_own() {
        for (failure, error) in [
            (Failure::NoLeader, ApiError::NoLeader),
            (Failure::LeaderChanged, ApiError::LeaderChanged),
            (Failure::TooManyRequests, ApiError::TooManyRequests),
            (Failure::TooLarge, ApiError::RequestTooLarge),
            (Failure::NoSpace, ApiError::NoSpace),
            (Failure::Unsupported, ApiError::NotCapable),
            (Failure::TimedOut, ApiError::Timeout),
            (Failure::TimedOutLeaderFailed, ApiError::TimeoutDueToLeaderFail),
        ] {
            assert_eq!(ApiError::from(failure), error);
            // Clients repeat a write on the texts of the one kind, and give up on those of the other.
            let says_unknown = error.message().contains("timed out");
            assert_eq!(says_unknown, !failure.is_certainly_not_done(), "{failure:?}");
        }
    }

    #[test]
    fn a_change_that_is_refused_for_its_quorum_has_etcds_text_and_the_numbers_beside_it() {
        let refusal = ChangeRefusal::WouldLoseQuorum { needed: 3, of: 4, reachable: 2 };
        let status = refused_change(&refusal);
        assert_eq!(ApiError::from_message(status.message()), Some(ApiError::Unhealthy));
        let reason = status.metadata().get(REASON).and_then(|reason| reason.to_str().ok());
        assert_eq!(reason, Some("would need 3 of 4 votes, 2 are reachable"));
        let status = refused_change(&ChangeRefusal::NoVoters);
        assert_eq!(ApiError::from_message(status.message()), Some(ApiError::MemberNotEnoughStarted));
        assert!(status.metadata().get(REASON).is_none());
    }

    /// What the parts below can refuse or fail with: each leaves as a row of etcd's table, with nothing behind it.
    #[test]
    fn whatever_is_refused_leaves_with_a_text_that_clients_find_in_their_table() {
        let refusals = [
            ChangeRefusal::MemberNotFound,
            ChangeRefusal::PeerUrlExists,
            ChangeRefusal::NotALearner,
            ChangeRefusal::NotCaughtUp,
            ChangeRefusal::TooManyLearners,
            ChangeRefusal::NoVoters,
            ChangeRefusal::WouldLoseQuorum { needed: 2, of: 3, reachable: 1 },
            ChangeRefusal::Unsafe { why: "two quorums need not meet".into() },
        ];
        let rejections = [
            Rejection::EmptyKey,
            Rejection::KeyNotFound,
            Rejection::ValueProvided,
            Rejection::LeaseProvided,
            Rejection::LeaseNotFound,
            Rejection::TooManyOps,
            Rejection::DuplicateKey,
            Rejection::Compacted,
            Rejection::FutureRevision,
            Rejection::InvalidSortOption,
            Rejection::MemberRemoved,
        ];
        let failures = [
            Failure::NoLeader,
            Failure::LeaderChanged,
            Failure::TooManyRequests,
            Failure::TooLarge,
            Failure::TimedOut,
            Failure::TimedOutLeaderFailed,
        ];
        let statuses = (refusals.iter().map(refused_change))
            .chain(rejections.map(|rejection| ApiError::from(rejection).into()))
            .chain(failures.map(|failure| ApiError::from(failure).into()))
            .chain(ApiError::ALL.iter().map(|&error| error.into()));
        let of_etcd = rows_of_etcd();
        for status in statuses {
            let status: Status = status;
            let code = format!("{:?}", status.code()).replace("Cancelled", "Canceled");
            assert!(of_etcd.contains(&(&code, status.message())), "{code}: {}", status.message());
        }
    }

    #[test]
    fn a_status_carries_code_and_text_and_finds_its_error_again() {
        for error in ApiError::ALL.iter().copied() {
            let status = Status::from(error);
            assert_eq!((status.code(), status.message()), (error.code(), error.message()));
            assert_eq!(ApiError::from_message(status.message()), Some(error));
            assert_eq!(error.to_string(), error.message());
        }
        assert_eq!(ApiError::from_message("etcdserver: no such text"), None);
    }
}
