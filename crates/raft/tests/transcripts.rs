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
#[path = "common/transcript_runner.rs"]
mod runner;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");

/// One test a script, so that each can be run by its name.
macro_rules! transcripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let path = format!("{SCRIPTS}/{}", stringify!($name));
                goldenscript::run(&mut runner::Runner::default(), path).expect("the script runs");
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
    a_broken_connection_does_not_depose_a_living_leader
    a_broken_connection_elects_early
    a_candidate_that_steps_back_keeps_its_vote
    a_candidates_own_vote_counts_when_it_is_durable
    a_change_of_members_is_joint_until_it_has_committed
    a_change_survives_the_leader_that_began_it
    a_change_that_leaves_no_quorum_is_refused
    a_change_that_reached_nobody_is_rolled_back
    a_change_waits_for_an_entry_of_the_leaders_term
    a_cluster_of_four_needs_three
    a_cluster_of_one_needs_nobody
    a_cluster_of_three_elects_and_commits
    a_cluster_of_two_needs_both
    a_configuration_is_in_force_when_appended
    a_deposed_leader_does_not_answer_reads
    a_doubled_vote_counts_once
    a_follower_reads_with_an_index_of_its_leader
    a_hole_behind_a_filled_one_is_filled_too
    a_hole_larger_than_an_append_is_filled_piece_by_piece
    a_hole_that_was_compacted_meanwhile_is_not_filled
    a_hole_ends_where_the_stream_has_come_to
    a_joint_configuration_needs_both_halves
    a_lagging_follower_is_sent_a_snapshot
    a_leader_of_a_lower_term_is_answered_with_the_higher
    a_leader_that_can_only_send_steps_down
    a_leader_that_cannot_read_its_log_steps_down
    a_leader_that_is_removed_leads_until_the_change_has_committed
    a_leader_whose_disk_stalls_steps_down
    a_leader_without_a_quorum_goes_quiet
    a_leaders_own_write_counts_when_it_is_durable
    a_learner_becomes_a_voter_when_it_has_caught_up
    a_log_that_was_compacted_meanwhile_is_not_asked_after
    a_longer_log_of_an_older_term_loses
    a_lost_last_append_is_sent_again_on_an_idle_cluster
    a_pre_vote_that_comes_after_winning_changes_nothing
    a_promoted_learner_votes_before_it_knows
    a_probe_is_not_sent_again_with_every_round_of_reads
    a_read_of_a_follower_fails_when_its_leader_is_gone
    a_read_waits_for_the_first_own_entry
    a_refused_pre_vote_teaches_the_higher_term
    a_removed_server_disturbs_nobody
    a_restarted_server_may_have_to_lead_though_it_has_left
    a_returning_isolated_server_does_not_disturb
    a_server_outside_its_own_configuration_may_have_to_lead
    a_server_that_does_not_hear_the_leader_disturbs_nobody
    a_snapshot_arrives_in_chunks
    a_slow_disk_is_asked_for_one_chunk_at_a_time
    a_snapshot_begins_anew_with_another_leader
    a_snapshot_carries_its_configuration
    a_snapshot_does_not_cut_off_what_the_log_has_since_received
    a_split_vote_is_tried_again
    a_stalled_disk_is_not_buried_under_replies
    a_strangers_word_counts_for_little
    a_transfer_to_a_partitioned_server_is_called_off
    a_truncated_entry_comes_back_and_commits
    a_vote_is_not_answered_before_it_is_durable
    an_append_that_contradicts_what_is_committed_is_ignored
    an_empty_append_does_not_commit_an_unverified_tail
    an_old_append_does_not_truncate
    an_old_leader_in_a_minority_commits_nothing
    an_old_snapshot_is_ignored
    an_old_write_cannot_vouch_for_a_rewritten_index
    appends_are_sent_ahead_within_a_window
    candidates_with_slow_disks_grow_patient
    each_batch_of_reads_has_a_round_of_its_own
    election_and_commit_quorums_can_differ
    fast_backup_skips_a_whole_term_in_a_round
    figure_7_six_followers_are_brought_into_line
    figure_8_an_entry_of_an_earlier_term_does_not_commit_by_counting
    figure_8e_an_entry_of_its_own_term_commits_the_earlier_ones
    leadership_is_handed_over
    old_entries_are_read_back_from_the_disk
    one_vote_a_term_across_a_crash
    reordered_appends_fill_the_hole
    votes_can_have_weights
    what_waits_to_be_committed_has_a_bound
    who_leaves_hears_that_the_change_has_committed
    without_a_majority_nothing_is_lost_or_decided
}
