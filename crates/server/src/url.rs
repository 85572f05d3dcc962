//! The URLs of flags, as etcd reads and writes them: `http://host:port`, and no path after it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

/// An address that members or clients are told. Ids are made of its text, so that is kept as it came.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Url {
    text: String,
    /// Where `host:port` begins in the text, and where it ends.
    authority: (usize, usize),
    port: u16,
}

/// Why a text is no such URL.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    /// What etcd knows and Tenure does not yet.
    #[error("{0:?}: https and Unix sockets are not supported yet")]
    NotYet(String),
    /// Not `http://`.
    #[error("{0:?}: the scheme must be http (https and Unix sockets are not supported yet)")]
    Scheme(String),
    /// No port, or one that is none.
    #[error("{0:?}: expected http://host:port")]
    Form(String),
    /// A path, be it a slash.
    #[error("{0:?}: a URL must not contain a path")]
    Path(String),
}

impl Url {
    /// `host:port`, to connect to.
    pub fn authority(&self) -> &str {
        &self.text[self.authority.0..self.authority.1]
    }

    /// The host; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let (host, _) = self.authority().rsplit_once(':').expect("it was checked");
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address that it stands for. Of those of a name the IPv4 one, as in Go: who is told `localhost:2379` tries
    /// 127.0.0.1.
    pub(crate) async fn address(&self) -> io::Result<SocketAddr> {
        let mut addresses: Vec<_> = tokio::net::lookup_host((self.host(), self.port)).await?.collect();
        addresses.sort_by_key(|address| !address.is_ipv4());
        addresses.first().copied().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let owned = || text.to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::Scheme(owned()))?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" | "unix" | "unixs" => return Err(UrlError::NotYet(owned())),
            _ => return Err(UrlError::Scheme(owned())),
        }
        // What a URL may have beside its address means nothing, to etcd neither: it is kept for the ids.
        let rest = rest
            .split_once('#')
            .map_or(rest, |(before, fragment)| if fragment.is_empty() { before } else { rest });
        let (address, _) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if rest[address.len()..].starts_with('/') {
            return Err(UrlError::Path(owned()));
        }
        let authority = address.rsplit_once('@').map_or(address, |(_, authority)| authority);
        let port = port_of(authority).ok_or_else(|| UrlError::Form(owned()))?;
        if rest.contains(|c: char| c.is_ascii_control() || c == ' ' || !c.is_ascii()) {
            return Err(UrlError::Form(owned()));
        }
        let start = "http://".len() + address.len() - authority.len();
        Ok(Url { text: format!("http://{rest}"), authority: (start, start + authority.len()), port })
    }
}

/// The port behind a host that is one.
fn port_of(authority: &str) -> Option<u16> {
    let (host, port) = authority.rsplit_once(':')?;
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match in_brackets {
        Some(address) => !address.is_empty(),
        None => !host.is_empty() && !host.contains([':', '[', ']', '%', '\\', '^', '`', '{', '|', '}']),
    };
    (is_host && port.bytes().all(|byte| byte.is_ascii_digit())).then(|| port.parse().ok())?
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_understood_and_nothing_else_is() {
        for (good, host, port) in [
            ("http://127.0.0.1:2379", "127.0.0.1", 2379),
            ("http://localhost:1", "localhost", 1),
            ("http://[::1]:2380", "::1", 2380),
            ("http://u:p@a:1", "a", 1),
            ("http://a:1?q", "a", 1),
            ("http://a:1#f", "a", 1),
            ("http://a:0080", "a", 80),
        ] {
            let url: Url = good.parse().unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (good, host, port));
        }
        for bad in [
            "https://a:1",
            "unix://a:1",
            "a:1",
            "http://a",
            "http://:1",
            "http://a:x",
            "http://a:+1",
            "http://a:1/",
            "http://a:1/p",
            "http://a:70000",
            "http://::1:1",
            "http://[]:1",
            "http://a b:1",
            "http://a%b:1",
            "",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_url_has_one_text() {
        for (text, written) in
            [(" http://a:1\t", "http://a:1"), ("HTTP://A:1", "http://A:1"), ("http://a:1#", "http://a:1")]
        {
            assert_eq!(text.parse::<Url>().expect(text).to_string(), written);
        }
    }
}
