//! The contract of the store as tests: each guarantee is one function, run on every engine.
//!
//! The engines are the embedded one on files, the same in memory, and a real etcd. `KEDGE_TEST_ETCD_DIR` names the
//! directory of the programs `etcd`, `etcdctl` and `etcdutl`; without it the tests on etcd say that they are left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod backend;
mod cluster;
mod engines;
mod etcd;
mod history;
mod leases;
mod life;
mod limits;
mod model;
mod netns;
mod observers;
mod panics;
mod proxy;
mod ranges;
mod recorder;
mod revisions;
mod store;
mod txns;
mod workload;

/// Makes a test of each guarantee for each engine.
macro_rules! contract {
    ($($module:ident: $($name:ident),+;)+) => {
        mod on_files {
            $($(#[test] fn $name() { crate::engines::on_files(|s| Box::pin(crate::$module::$name(s))); })+)+
        }
        mod in_memory {
            $($(#[test] fn $name() { crate::engines::in_memory(|s| Box::pin(crate::$module::$name(s))); })+)+
        }
        mod on_etcd {
            $($(#[test] fn $name() { crate::engines::on_etcd(|s| Box::pin(crate::$module::$name(s))); })+)+
        }
    };
}

contract! {
    revisions: every_write_takes_the_next_revision, a_write_of_the_same_value_is_a_write, versions_count_from_creation,
        a_deletion_of_nothing_takes_no_revision, reads_take_no_revision, the_handle_knows_the_newest_revision;
    ranges: a_range_is_in_the_order_of_keys, a_limit_leaves_the_count, counts_without_keys, keys_without_values,
        an_old_revision_shows_the_old_state, pages_of_one_revision_make_one_list, ranges_without_end,
        a_range_of_nothing_is_empty, a_future_revision_is_refused, a_prefix_of_only_high_bytes;
    txns: a_compare_and_swap_has_one_winner, conditions_compare_all_that_a_key_has, conditions_on_absent_keys_see_zeroes,
        conditions_on_ranges_hold_for_every_key, conditions_on_empty_ranges_see_zeroes, all_conditions_must_hold,
        a_transaction_reads_its_own_writes, writes_of_a_transaction_share_a_revision, conditions_come_before_all_writes,
        inner_transactions_nest, a_range_is_deleted_with_its_previous_values, keys_are_written_once,
        the_other_branch_runs_when_a_condition_fails;
    leases: an_expired_lease_takes_its_keys_along, a_revoked_lease_takes_its_keys_along, a_kept_lease_stays,
        a_lease_is_described, a_key_follows_its_last_lease, an_unknown_lease_changes_nothing,
        unknown_leases_are_named, a_lease_id_is_taken_once;
    observers: events_come_in_order_and_once, events_of_a_revision_come_together, events_carry_previous_values,
        only_the_prefix_is_reported, snapshot_and_events_make_the_state, a_barrier_covers_what_was_acknowledged,
        barriers_share_and_hold, many_observers_see_the_same, large_transactions_are_reported_whole,
        observers_outlive_compaction;
    limits: empty_keys_are_refused, large_requests_are_refused, many_operations_are_refused, long_leases_are_refused,
        large_values_come_back_whole;
    life: compacted_revisions_are_refused, compaction_keeps_what_is_current, compaction_goes_forward_only,
        a_store_is_healthy, a_closed_store_takes_nothing;
    history: concurrent_clients_see_one_order;
}
