//! Runs the scripts in `tests/scripts`: scenes of the paper, and of what went wrong in other systems.
//!
//! A script is commands (`common/transcript_commands.rs`) and what the servers said, in the notation of
//! the types. After every input the invariants of the node are checked, after every command those of the
//! cluster, so a script is more than its text. `UPDATE_GOLDENFILES=1` writes the output anew; read the
//! difference before you keep it.

#[path = "common/transcript_checks.rs"]
mod checks;
#[path = "common/transcript_commands.rs"]
mod commands;
#[path = "common/transcript_disk.rs"]
mod disk;
#[path = "common/transcript_notation.rs"]
mod notation;
#[path = "common/transcript_rig.rs"]
mod rig;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");

/// One test a script, so that each can be run by its name.
macro_rules! transcripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let path = format!("{SCRIPTS}/{}", stringify!($name));
                goldenscript::run(&mut commands::Runner::default(), path).expect("the script runs");
            }
        )*

        #[test]
        fn every_script_is_run() {
            let listed: std::collections::BTreeSet<&str> = [$(stringify!($name)),*].into();
            for file in std::fs::read_dir(SCRIPTS).expect("the scripts") {
                let name = file.expect("a script").file_name();
                assert!(listed.contains(name.to_str().expect("a plain name")), "{name:?} is not listed");
            }
        }
    };
}

transcripts! {
    a_candidate_that_steps_back_keeps_its_vote
    a_candidates_own_vote_counts_when_it_is_durable
    a_cluster_of_three_elects_and_commits
    a_doubled_vote_counts_once
    a_leader_that_can_only_send_steps_down
    a_leader_without_a_quorum_goes_quiet
    a_leaders_own_write_counts_when_it_is_durable
    a_longer_log_of_an_older_term_loses
    a_pre_vote_that_comes_after_winning_changes_nothing
    a_refused_pre_vote_teaches_the_higher_term
    a_returning_isolated_server_does_not_disturb
    a_server_that_does_not_hear_the_leader_disturbs_nobody
    a_snapshot_arrives_in_chunks
    a_snapshot_begins_anew_with_another_leader
    a_snapshot_does_not_cut_off_what_the_log_has_since_received
    a_split_vote_is_tried_again
    a_vote_is_not_answered_before_it_is_durable
    an_append_that_contradicts_what_is_committed_is_ignored
    an_old_leader_in_a_minority_commits_nothing
    figure_7_six_followers_are_brought_into_line
    figure_8_an_entry_of_an_earlier_term_does_not_commit_by_counting
    figure_8e_an_entry_of_its_own_term_commits_the_earlier_ones
    one_vote_a_term_across_a_crash
}
