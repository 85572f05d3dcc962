//! With what a member began: the flags that count only then, and the members that it was told of.
//!
//! Flags change over the years. What they say of the cluster is read once, when a member begins; after that they are
//! compared with what is kept here, so that the log can name what differs. The addresses are kept because a cluster
//! whose members have not yet written theirs into the log has them nowhere else.
//!
//! The file `beginning` holds "TENUREBG", the format's version (4 bytes, little endian), texts with their lengths (4
//! bytes each) before them, and a CRC32C: the token, `--initial-cluster`, `--initial-advertise-peer-urls`, and a command
//! for each member, as the log has it.

use std::io;

use bytes::Bytes;
use tenure_store::{Command, Member};
use tenure_wal::Disk;

use crate::small_files::{Format, damaged, replace_file};

const FILE: &str = Beginning::FILE;
pub(crate) const TEMPORARY_FILE: &str = "beginning.new";
const FORMAT: Format = Format { magic: b"TENUREBG", version: 1, max_bytes: 1 << 20 };
/// The texts before the members.
const SETTINGS: usize = 3;

/// What a member was told when it began.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Beginning {
    /// `--initial-cluster-token`.
    pub token: String,
    /// `--initial-cluster`; empty if there was none.
    pub cluster: String,
    /// `--initial-advertise-peer-urls`.
    pub peer_urls: String,
    /// The members: of a new cluster those of its flags, else as the cluster said.
    pub members: Vec<Member>,
}

impl Beginning {
    /// The file's name in a member's folder.
    pub const FILE: &str = "beginning";

    /// Writes it down, durably; to be done before the directory has an identity.
    pub fn keep<D: Disk>(&self, disk: &D) -> io::Result<()> {
        let mut content = Vec::new();
        let settings = [&self.token, &self.cluster, &self.peer_urls].map(|text| Bytes::from(text.clone()));
        let members = self.members.iter().map(|member| {
            let mut command = Vec::new();
            Command::PublishMember(member.clone()).encode(&mut command);
            Bytes::from(command)
        });
        for text in settings.into_iter().chain(members) {
            content.extend_from_slice(&(text.len() as u32).to_le_bytes());
            content.extend_from_slice(&text);
        }
        let bytes = FORMAT.wrap(&content);
        if bytes.len() > FORMAT.max_bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "--initial-cluster is too long"));
        }
        replace_file(disk, FILE, TEMPORARY_FILE, &bytes)
    }

    /// Reads it; none in a directory that has no such file.
    pub fn load<D: Disk>(disk: &D) -> io::Result<Option<Beginning>> {
        let content = FORMAT.load(disk, FILE)?;
        content.map(|content| decode(&content).ok_or_else(damaged)).transpose()
    }
}

fn decode(content: &[u8]) -> Option<Beginning> {
    let mut rest = content;
    let mut texts = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk() {
        let (text, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        texts.push(text);
        rest = after;
    }
    if !rest.is_empty() || texts.len() < SETTINGS {
        return None;
    }
    let (settings, members) = texts.split_at(SETTINGS);
    let text = |at: usize| String::from_utf8(settings[at].to_vec()).ok();
    let member = |text: &&[u8]| match Command::decode(&Bytes::copy_from_slice(text)) {
        Ok(Command::PublishMember(member)) => Some(member),
        _ => None,
    };
    let members = members.iter().map(member).collect::<Option<_>>()?;
    Some(Beginning { token: text(0)?, cluster: text(1)?, peer_urls: text(2)?, members })
}

#[cfg(test)]
mod tests {
    use tenure_wal::MemoryDisk;

    use super::*;

    #[test]
    fn it_comes_back_and_any_damage_is_noticed() {
        let member = |id| Member {
            id,
            name: format!("n{id}"),
            peer_urls: vec!["http://h:1".into()],
            ..Member::default()
        };
        let beginning = Beginning {
            token: "t".into(),
            cluster: "n1=http://h:1".into(),
            peer_urls: String::new(),
            members: vec![member(1), member(2)],
        };
        for beginning in [beginning, Beginning::default()] {
            let disk = MemoryDisk::new();
            assert_eq!(Beginning::load(&disk).expect("a disk"), None);
            beginning.keep(&disk).expect("a disk");
            assert_eq!(Beginning::load(&disk).expect("a disk"), Some(beginning));
            let content = disk.content(FILE).expect("the file");
            for offset in 0..content.len() {
                let damaged = disk.fork();
                damaged.flip(FILE, offset, 1);
                assert!(Beginning::load(&damaged).is_err(), "byte {offset}");
                let short = MemoryDisk::new();
                short.place(FILE, &content[..offset]);
                assert!(Beginning::load(&short).is_err(), "{offset} bytes");
            }
        }
    }
}
