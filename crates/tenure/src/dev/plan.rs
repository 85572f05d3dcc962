//! Who the members are: their names, ports and folders.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, bail};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
/// Each member takes two ports.
const LAST_PORT_OFFSET: u16 = 2 * NAMES.len() as u16 - 1;
/// The last port that leaves room for the others.
pub(crate) const LAST_BASE_PORT: u16 = u16::MAX - LAST_PORT_OFFSET;

/// The whole cluster.
pub(crate) struct Plan {
    pub(crate) data: PathBuf,
    base_port: u16,
    pub(crate) members: Vec<MemberPlan>,
}

/// One member.
pub(crate) struct MemberPlan {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
}

impl Plan {
    pub(crate) fn new(data: &Path, base_port: u16) -> Plan {
        let members = NAMES.iter().zip((base_port..).step_by(2)).map(|(name, port)| MemberPlan {
            name,
            folder: data.join(name),
            client_port: port,
            peer_port: port + 1,
        });
        Plan { data: data.to_owned(), base_port, members: members.collect() }
    }

    /// Better than three logs that say it.
    pub(crate) fn check_ports(&self) -> anyhow::Result<()> {
        for member in &self.members {
            for port in [member.client_port, member.peer_port] {
                if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                    bail!(
                        "cannot listen at port {port}: {error}. Is another `tenure dev` running? --base-port \
                         takes other ports, and --data another folder"
                    );
                }
            }
        }
        Ok(())
    }

    /// The members look for each other where they did when their data was made, whatever they are started with.
    pub(crate) fn check_base_port(&self) -> anyhow::Result<()> {
        let (data, base_port) = (self.data.display(), self.base_port);
        let file = self.data.join("base-port");
        match fs::read_to_string(&file) {
            Ok(kept) if kept.trim() == base_port.to_string() => Ok(()),
            Ok(kept) => bail!(
                "the data in {data} was made with --base-port {}, and needs that one; another --data folder begins anew",
                kept.trim()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.data).with_context(|| format!("cannot create {data}"))?;
                fs::write(&file, base_port.to_string())
                    .with_context(|| format!("cannot write {}", file.display()))
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// As clients are told.
    pub(crate) fn endpoints(&self) -> String {
        let endpoints = self.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port));
        endpoints.collect::<Vec<_>>().join(",")
    }

    /// `--initial-cluster`.
    pub(crate) fn initial_cluster(&self) -> String {
        let members = self.members.iter().map(|member| format!("{}={}", member.name, member.peer_url()));
        members.collect::<Vec<_>>().join(",")
    }
}

impl MemberPlan {
    pub(crate) fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Where the member writes its log.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Makes the folder, if there is none.
    pub(crate) fn create_folder(&self) -> anyhow::Result<()> {
        let folder = &self.folder;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
    }
}
