//! The generated code: messages, clients and services of etcd v3, from `proto/`.

/// The key-value pair (`mvccpb`).
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Requests, responses and services (`etcdserverpb`).
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The frames between members (`tenure.peer.v1`); [`crate::peer`] checks what they hold.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
pub(crate) mod peer {
    tonic::include_proto!("tenure.peer.v1");
}
