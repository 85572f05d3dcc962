//! The URLs of flags: `http://host:port`, and nothing after it.

use std::fmt;
use std::str::FromStr;

/// An address that members or clients are told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Url {
    host: String,
    port: u16,
}

/// Why a text is no such URL.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    /// Not `http://`.
    #[error("{0:?}: the scheme must be http (https is not supported yet)")]
    Scheme(String),
    /// No port, or more than host and port.
    #[error("{0:?}: expected http://host:port")]
    Form(String),
}

impl Url {
    /// `host:port`, to bind or to connect to.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(UrlError::Scheme(text.to_owned()));
        };
        let form = || UrlError::Form(text.to_owned());
        let (host, port) = rest.rsplit_once(':').ok_or_else(form)?;
        let port = port.parse().map_err(|_| form())?;
        if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) {
            return Err(form());
        }
        Ok(Url { host: host.to_owned(), port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_understood_and_nothing_else_is() {
        for good in ["http://127.0.0.1:2379", "http://localhost:1", "http://[::1]:2380"] {
            assert_eq!(good.parse::<Url>().map(|url| url.to_string()).as_deref(), Ok(good));
        }
        for bad in [
            "https://a:1",
            "a:1",
            "http://a",
            "http://:1",
            "http://a:x",
            "http://a:1/",
            "http://a:70000",
            "http://u@a:1",
            "",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }
}
