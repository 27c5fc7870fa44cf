//! Nodes that were away for longer than deletes are remembered, and ones that were removed.
//!
//! What is NOT here: shorter separations ([`super::values`]).

use super::{K, Script};
use crate::replication::sim::ablations::Ablation;
use crate::replication::sim::plan::{Op, Ttl, What};

/// `nodes` that remember what was deleted for three seconds.
fn forgetful(nodes: usize, wipes: bool) -> Script {
    let mut script = Script::new(12);
    (script.setting.nodes, script.setting.horizon, script.setting.wipes) = (nodes, 3, wipes);
    script
}

#[test]
fn what_was_deleted_does_not_come_back_with_a_node_that_was_away_for_too_long_and_wipes() {
    forgetful(2, true)
        .set(1_000, 1, Ttl::Never)
        .apart(0, 1, 1_500, 9_000)
        .set(1_800, 1, Ttl::Never)
        .op(2_000, 0, K, Op::Delete)
        .op(2_500, 1, 1, Op::Set { ttl: Ttl::Never })
        .needs_the_rule_that_is_without(Ablation::NobodyWipes);
}

#[test]
fn what_was_deleted_does_not_come_back_with_a_node_that_began_alone_and_wipes() {
    // It has heard of nothing, and so missed nothing; but it has been written to.
    forgetful(2, true)
        .apart(0, 1, 1_500, 12_000)
        .dies(1, 1_600)
        .starts(1, 2_000)
        .set(5_600, 1, Ttl::Never)
        .set(6_000, 0, Ttl::Never)
        .op(6_100, 0, K, Op::Delete)
        .needs_the_rule_that_is_without(Ablation::NobodyWipes);
}

#[test]
fn what_was_written_while_a_node_was_away_for_too_long_is_kept_where_nodes_are_merged() {
    forgetful(2, false)
        .set(1_000, 1, Ttl::Never)
        .apart(0, 1, 1_500, 9_000)
        .op(2_000, 0, K, Op::Delete)
        .op(2_500, 1, 1, Op::Set { ttl: Ttl::Never })
        .needs_the_rule_that_is_without(Ablation::EverybodyWipes);
}

#[test]
fn the_loss_of_what_a_touch_let_expire_is_told_though_an_older_value_has_come_back_meanwhile() {
    // Written last by the clock that is behind, which is so on some of these networks.
    forgetful(2, false)
        .apart(0, 1, 1_500, 9_000)
        .set(2_000, 0, Ttl::Never)
        .touch(2_010, 0, Ttl::Seconds(1))
        .set(2_020, 1, Ttl::Never)
        .ends_well();
}

#[test]
fn who_has_let_go_of_a_delete_and_is_given_an_older_value_is_told_of_the_delete() {
    // Nobody compares the two again after a repair: one of them has evicted something.
    forgetful(2, false)
        .op(1_000, 0, 1, Op::Set { ttl: Ttl::Never })
        .apart(0, 1, 1_500, 9_000)
        .set(2_000, 0, Ttl::Never)
        .set(2_500, 1, Ttl::Never)
        .op(2_600, 1, K, Op::Delete)
        .at(3_000, What::Evict { node: 0, key: 1 })
        .needs_the_rule_that_is_without(Ablation::ForgottenTrusted);
}

#[test]
fn what_a_third_node_deleted_does_not_come_back_with_a_node_that_was_away_for_too_long() {
    // Nothing that node 1 wrote is forgotten, and it meets node 2 before node 0 does.
    forgetful(3, true)
        .set(1_000, 1, Ttl::Never)
        .alone(2, 1_500, 9_000)
        .op(2_000, 0, K, Op::Delete)
        .touch(2_500, 2, Ttl::Seconds(1_000))
        .apart(0, 2, 8_900, 10_000)
        .needs_the_rule_that_is_without(Ablation::NobodyWipes);
}

#[test]
fn who_missed_only_that_a_value_was_touched_and_expired_is_behind() {
    // Node 2 meets node 1 first, which knows of the touch, but did not make it.
    forgetful(3, true)
        .set(1_000, 0, Ttl::Seconds(1_000))
        .alone(2, 1_500, 9_000)
        .touch(2_500, 0, Ttl::Seconds(1))
        .apart(0, 2, 8_900, 10_000)
        .needs_the_rule_that_is_without(Ablation::NobodyWipes);
}

#[test]
fn a_company_does_not_begin_anew_because_of_what_one_that_was_alone_deleted() {
    forgetful(3, true)
        .set(1_000, 1, Ttl::Never)
        .alone(2, 1_500, 9_000)
        .op(2_000, 2, K, Op::Delete)
        .op(2_500, 0, 1, Op::Set { ttl: Ttl::Never })
        .ends_well();
}

#[test]
fn what_was_deleted_reaches_who_cannot_hear_of_it_before_it_is_forgotten() {
    // Node 1 hears both, and tells neither what the other deletes.
    forgetful(3, true)
        .set(1_000, 0, Ttl::Never)
        .apart(0, 2, 1_500, 12_000)
        .op(5_000, 2, K, Op::Delete)
        .at(9_500, What::Reset { one: 0, other: 1 })
        .needs_the_rule_that_is_without(Ablation::LaggardsUndoubted);
}

#[test]
fn a_delete_is_not_forgotten_before_who_lacks_it_hears_though_the_value_is_always_about_to_expire()
{
    // Node 0 tells of the delete nobody but node 1, and dies. Clocks are 0.3 s ahead of these times: by
    // them the value is touched at 3.8, until 6; sums are compared at 4.8 and tell of what lives beyond 6;
    // at 5 node 1 forgets.
    forgetful(3, true)
        .apart(0, 2, 1_400, 9_000)
        .at(1_450, What::Reset { one: 0, other: 2 })
        .set(1_800, 1, Ttl::Seconds(2))
        .op(2_000, 0, K, Op::Delete)
        .dies(0, 2_200)
        .touch(3_500, 2, Ttl::Seconds(3))
        .touch(5_300, 2, Ttl::Never)
        .needs_the_rule_that_is_without(Ablation::GoneUntold);
}

#[test]
fn a_company_whose_connection_is_replaced_just_now_is_one() {
    for reset in [5_500, 5_900, 5_990] {
        forgetful(3, true)
            .set(1_700, 1, Ttl::Never)
            .alone(2, 1_500, 6_000)
            .op(1_800, 2, K, Op::Set { ttl: Ttl::Never })
            .op(2_300, 2, K, Op::Delete)
            .at(reset, What::Reset { one: 0, other: 1 })
            .ends_well();
    }
}

/// Node 2 is removed, writes alone, and is added again; the others delete what it has.
fn removed_and_added() -> Script {
    let mut script = Script::new(12).set(1_000, 0, Ttl::Never);
    for node in [0, 1] {
        script = script
            .at(1_500, What::Remove { node, peer: 2 })
            .at(6_000 + 150 * node as u64, What::Add { node, peer: 2 });
    }
    script = script.set(1_800, 2, Ttl::Never).op(2_000, 1, K, Op::Delete);
    script.op(2_500, 2, 1, Op::Set { ttl: Ttl::Never })
}

#[test]
fn what_a_removed_node_wrote_is_not_lost_when_it_is_added_again() {
    removed_and_added().ends_well();
    removed_and_added().dies(0, 5_000).starts(0, 5_500).ends_well();
}

#[test]
fn what_was_deleted_may_come_back_by_one_who_knows_a_node_that_another_has_removed() {
    // Node 1 remembers nothing for node 2, from which node 0 loads what was deleted.
    Script::new(12)
        .set(1_000, 0, Ttl::Never)
        .at(1_500, What::Remove { node: 1, peer: 2 })
        .op(4_000, 1, K, Op::Delete)
        .apart(0, 1, 4_950, 7_000)
        .dies(0, 5_000)
        .starts(0, 5_100)
        .at(10_000, What::Add { node: 1, peer: 2 })
        .ends_well();
}

#[test]
fn what_was_deleted_and_let_go_of_is_not_taken_for_lost_when_a_removed_node_brings_an_older_value()
{
    // Written last by the clock that is behind, which is so on some of these networks.
    let mut script = Script::new(2)
        .at(1_500, What::Remove { node: 1, peer: 0 })
        .at(1_500, What::Remove { node: 2, peer: 0 })
        .set(4_000, 2, Ttl::Never)
        .op(4_100, 1, K, Op::Delete)
        .set(4_200, 0, Ttl::Never)
        .chatter(5_000, 1)
        .chatter(5_500, 2)
        .at(8_000, What::Add { node: 1, peer: 0 })
        .at(8_000, What::Add { node: 2, peer: 0 });
    script.setting.skew = 500;
    script.ends_well();
}

#[test]
fn what_was_deleted_does_not_come_back_with_a_node_that_was_removed_and_wipes() {
    let mut script = removed_and_added();
    script.setting.wipes = true;
    script.needs_the_rule_that_is_without(Ablation::NobodyWipes);
}

/// Node 1 does not hear of a delete before it compares with node 2, where three others, of which node 0
/// hears only that they are over, have taken its place; node 2 may have evicted something before.
fn given_back(has_evicted: bool) -> Script {
    let mut script = Script::new(12).set(1_000, 1, Ttl::Never).chatter(1_000, 1);
    if has_evicted {
        script = script.at(1_200, What::Evict { node: 2, key: 5 });
    }
    script = script
        .op(1_300, 0, 5, Op::Delete)
        .at(3_000, What::Cut { from: 0, to: 1 })
        .at(3_000, What::Cut { from: 1, to: 0 })
        .op(3_100, 0, K, Op::Delete);
    for key in 1..4 {
        script = script.op(3_200 + 2 * key as u64, 1, key, Op::Delete).op(
            3_220 + key as u64,
            1,
            key,
            Op::Set { ttl: Ttl::Never },
        );
    }
    script =
        script.at(3_600, What::Heal { from: 1, to: 0 }).at(6_000, What::Heal { from: 0, to: 1 });
    script.setting.floors = 3;
    script
}

#[test]
fn what_was_deleted_stays_where_it_came_back_to_if_that_node_has_evicted_and_forgotten() {
    // That is excused, unless the checker is told not to.
    given_back(true).needs_the_rule_that_is_without(Ablation::FloorBudgetOfThree);
}

#[test]
fn what_was_deleted_does_not_stay_where_it_came_back_to_if_nobody_has_evicted() {
    given_back(false).needs_the_rule_that_is_without(Ablation::NoDoubts);
}
