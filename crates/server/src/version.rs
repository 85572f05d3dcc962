//! What this server says of its version.

/// Tenure's own.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version of etcd whose API is served. Clients parse it as three numbers.
pub const API_VERSION: &str = "3.7.3";
/// What etcd calls the version of the cluster and of the storage: the API's, without its patches.
pub(crate) const STORAGE_VERSION: &str = "3.7.0";
