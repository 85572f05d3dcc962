//! Who the first members of a cluster are, as `--initial-cluster` says, and the ids that follow from it: the same on
//! every member without a word exchanged, as in etcd.

use std::collections::BTreeMap;
use std::time::Duration;

use sha1::{Digest, Sha1};
use tenure_raft::NodeId;
use tenure_store::Member;
use tokio::time::Instant;

use crate::config::{Config, ConfigError};
use crate::url::Url;

/// How long names may take to stand for addresses.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
const RESOLVE_RETRY: Duration = Duration::from_secs(1);

/// The members that `--initial-cluster` names, among them this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Founders {
    members: BTreeMap<String, Vec<Url>>,
    token: String,
    own_name: String,
}

impl Founders {
    /// Reads what the flags say of the cluster, for a member that begins.
    pub(crate) fn of(config: &Config) -> Result<Founders, ConfigError> {
        let members = match &config.initial_cluster {
            Some(text) => parse(text).map_err(ConfigError::InitialCluster)?,
            None => BTreeMap::from([(config.name.clone(), sorted(&config.advertised_peer_urls()))]),
        };
        if !members.contains_key(&config.name) {
            let known = members.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(ConfigError::NameNotInCluster { name: config.name.clone(), known });
        }
        let mut all: Vec<&Url> = members.values().flatten().collect();
        all.sort();
        if let Some(pair) = all.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ConfigError::DuplicateUrl { url: pair[0].to_string() });
        }
        let token = config.token().to_owned();
        Ok(Founders { members, token, own_name: config.name.clone() })
    }

    /// This member's peer URLs.
    pub(crate) fn own_urls(&self) -> &[Url] {
        &self.members[&self.own_name]
    }

    /// The peer URLs of the others.
    pub(crate) fn others_urls(&self) -> impl Iterator<Item = &Url> {
        self.members.iter().filter(|(name, _)| **name != self.own_name).flat_map(|(_, urls)| urls)
    }

    /// Whether this member advertises the peer URLs that the cluster has for it. Names are as good as the addresses that
    /// they stand for; they are asked for again and again for a while, since where members are started together, the
    /// names may come after them.
    pub(crate) async fn check_advertised(&self, advertised: &[Url]) -> Result<(), ConfigError> {
        let (own, advertised) = (self.own_urls(), sorted(advertised));
        let give_up = Instant::now() + RESOLVE_TIMEOUT;
        while own.len() == advertised.len() && own != advertised {
            match (resolve(own).await, resolve(&advertised).await) {
                (Ok(own), Ok(advertised)) if own == advertised => return Ok(()),
                (Ok(_), Ok(_)) => break,
                (Err(_), _) | (_, Err(_)) if Instant::now() > give_up => break,
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!("{error}: --initial-advertise-peer-urls cannot be compared yet");
                    tokio::time::sleep(RESOLVE_RETRY).await;
                }
            }
        }
        if own == advertised {
            return Ok(());
        }
        let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",");
        let (name, in_cluster, advertised) = (self.own_name.clone(), texts(own), texts(&advertised));
        Err(ConfigError::PeerUrlsDiffer { name, in_cluster, advertised })
    }

    /// The ids of the first members, with their names.
    pub(crate) fn ids(&self) -> BTreeMap<NodeId, &str> {
        self.members.iter().map(|(name, urls)| (member_id(urls, &self.token), name.as_str())).collect()
    }

    /// This member's id.
    pub(crate) fn own_id(&self) -> NodeId {
        member_id(self.own_urls(), &self.token)
    }

    /// The cluster's id.
    pub(crate) fn cluster_id(&self) -> u64 {
        let mut hash = Sha1::new();
        for id in self.ids().keys() {
            hash.update(id.as_u64().to_be_bytes());
        }
        first_word(&hash.finalize())
    }

    /// The members with their names and addresses, by id.
    pub(crate) fn members(&self) -> BTreeMap<u64, Member> {
        let members = self.members.iter().map(|(name, urls)| {
            let id = member_id(urls, &self.token).as_u64();
            let peer_urls = urls.iter().map(Url::to_string).collect();
            (id, Member { id, name: name.clone(), peer_urls, ..Member::default() })
        });
        members.collect()
    }
}

impl Config {
    /// Checks what only a member that begins reads of its flags.
    pub fn check_beginning(&self) -> Result<(), ConfigError> {
        Founders::of(self).map(drop)
    }
}

/// Reads `name=url,name=url` as etcd does: a member with several URLs is named once for each, what is empty between
/// two commas is passed over, and a name is taken as it is, spaces included.
fn parse(text: &str) -> Result<BTreeMap<String, Vec<Url>>, String> {
    let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for member in text.split(',').filter(|member| !member.is_empty()) {
        let Some((name, url)) = member.split_once('=') else {
            return Err(format!("{member:?}: expected name=url"));
        };
        let url = url.parse::<Url>().map_err(|error| error.to_string())?;
        members.entry(name.to_owned()).or_default().push(url);
    }
    for urls in members.values_mut() {
        urls.sort();
    }
    Ok(members)
}

/// The addresses that URLs stand for. `localhost` stands for itself, as in etcd.
async fn resolve(urls: &[Url]) -> Result<Vec<String>, String> {
    let mut addresses = Vec::new();
    for url in urls {
        addresses.push(match url.host() {
            "localhost" => url.authority().to_owned(),
            _ => url.address().await.map_err(|error| format!("{url}: {error}"))?.to_string(),
        });
    }
    addresses.sort();
    Ok(addresses)
}

/// etcd's member id: a hash of the sorted peer URLs and the cluster's token.
fn member_id(urls: &[Url], token: &str) -> NodeId {
    let mut hash = Sha1::new();
    for url in sorted(urls) {
        hash.update(url.to_string());
    }
    hash.update(token);
    // Zero, which means "none", comes up once in 2^64.
    NodeId::new(first_word(&hash.finalize()).max(1)).expect("not zero")
}

fn first_word(digest: &[u8]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 digest has 20 bytes"))
}

fn sorted(urls: &[Url]) -> Vec<Url> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_may_have_several_urls() {
        let members = parse("a=http://h:3,b=http://h:2,,a=http://h:1,").expect("members");
        let texts = |name: &str| members[name].iter().map(Url::to_string).collect::<Vec<_>>();
        assert_eq!(
            (texts("a"), texts("b")),
            (vec!["http://h:1".into(), "http://h:3".into()], vec!["http://h:2".into()])
        );
    }

    #[test]
    fn what_is_no_list_of_members_is_refused() {
        for text in ["a", "a=", "a=h:1", "a=http://h", "a=http://h:1/"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn names_are_as_good_as_the_addresses_that_they_stand_for() {
        let founders = |url: &str| Founders {
            members: BTreeMap::from([("a".to_owned(), vec![url.parse().expect("a URL")])]),
            token: String::new(),
            own_name: "a".to_owned(),
        };
        let advertised = |url: &str| [url.parse::<Url>().expect("a URL")];
        for (in_cluster, says, is_same) in [
            ("http://127.0.0.1:1", "http://127.0.0.1:1", true),
            ("http://127.0.0.1:1", "http://127.0.0.1:01", true),
            ("http://127.0.0.1:1", "http://127.0.0.1:2", false),
            ("http://127.0.0.1:1", "http://localhost:1", false),
        ] {
            let result = founders(in_cluster).check_advertised(&advertised(says)).await;
            assert_eq!(result.is_ok(), is_same, "{in_cluster} {says}");
        }
    }
}
