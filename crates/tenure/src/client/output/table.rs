//! `-w table`, and the rows that it shares with `-w simple`.

use tenure_api::pb::etcdserverpb::{HashKvResponse, MemberListResponse, StatusResponse};

use crate::client::cluster::{Answer, Health};
use crate::client::duration;

pub(super) const STATUS_HEADER: [&str; 16] = [
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];
pub(super) const HASH_HEADER: [&str; 3] = ["ENDPOINT", "HASH", "HASH REVISION"];
pub(super) const MEMBERS_HEADER: [&str; 6] =
    ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];

pub(super) const HEALTH_HEADER: [&str; 4] = ["ENDPOINT", "HEALTH", "TOOK", "ERROR"];

pub(super) fn health_rows(answers: &[Health]) -> Vec<[String; 4]> {
    let row = |Health { endpoint, took, error }: &Health| {
        let is_healthy = error.is_none().to_string();
        [endpoint.clone(), is_healthy, duration::text(*took), error.clone().unwrap_or_default()]
    };
    answers.iter().map(row).collect()
}

pub(super) fn status_rows(answers: &[Answer<StatusResponse>]) -> Vec<[String; 16]> {
    answers.iter().map(status_row).collect()
}

fn status_row(answer: &Answer<StatusResponse>) -> [String; 16] {
    let Answer { endpoint, response } = answer;
    let member_id = response.header.map_or(0, |header| header.member_id);
    let downgrade = response.downgrade_info.clone().unwrap_or_default();
    [
        endpoint.clone(),
        format!("{member_id:x}"),
        response.version.clone(),
        response.storage_version.clone(),
        size(response.db_size),
        size(response.db_size_in_use),
        not_in_use(response),
        size(response.db_size_quota),
        (response.leader == member_id).to_string(),
        response.is_learner.to_string(),
        response.raft_term.to_string(),
        response.raft_index.to_string(),
        response.raft_applied_index.to_string(),
        response.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

pub(super) fn hash_rows(answers: &[Answer<HashKvResponse>]) -> Vec<[String; 3]> {
    let row = |Answer { endpoint, response }: &Answer<HashKvResponse>| {
        [endpoint.clone(), response.hash.to_string(), response.hash_revision.to_string()]
    };
    answers.iter().map(row).collect()
}

pub(super) fn member_rows(response: &MemberListResponse) -> Vec<[String; 6]> {
    let rows = response.members.iter().map(|member| {
        [
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
            member.name.clone(),
            member.peer_urls.join(","),
            member.client_urls.join(","),
            member.is_learner.to_string(),
        ]
    });
    rows.collect()
}

/// A size for people, in powers of 1000: two digits below ten, no fraction from ten on.
fn size(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let bytes = bytes.max(0) as u64;
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let power = bytes.ilog(1000);
    let tenths = (bytes as f64 / 1000_f64.powi(power as i32) * 10.0 + 0.5).floor();
    let value = tenths / 10.0;
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {}", UNITS[power as usize])
}

fn not_in_use(response: &StatusResponse) -> String {
    let in_use_percent = response.db_size_in_use.saturating_mul(100).checked_div(response.db_size);
    format!("{}%", 100 - in_use_percent.unwrap_or(100))
}

/// A table with a frame: titles in the middle, cells to the right.
pub(super) fn render<const COLUMNS: usize>(titles: &[&str; COLUMNS], rows: &[[String; COLUMNS]]) -> Vec<u8> {
    let width_of = |text: &str| text.chars().count();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| width_of(row[column].trim()));
        cells.chain([width_of(titles[column])]).max().unwrap_or_default()
    });
    let border = |left: &str, between: &str, right: &str| {
        format!("{left}{}{right}\n", widths.map(|width| "─".repeat(width + 2)).join(between))
    };
    let line = |cells: [String; COLUMNS]| format!("│{}│\n", cells.join("│"));

    let mut table = border("┌", "┬", "┐");
    table += &line(std::array::from_fn(|column| format!(" {:^1$} ", titles[column], widths[column])));
    if !rows.is_empty() {
        table += &border("├", "┼", "┤");
    }
    for row in rows {
        table += &line(std::array::from_fn(|column| format!(" {:>1$} ", row[column].trim(), widths[column])));
    }
    table += &border("└", "┴", "┘");
    table.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1023, "1.0 kB"),
            (16384, "16 kB"),
            (9999, "10 kB"),
            (20480, "20 kB"),
            (1_000_000, "1.0 MB"),
            (2_147_483_648, "2.1 GB"),
            (i64::MAX, "9.2 EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
