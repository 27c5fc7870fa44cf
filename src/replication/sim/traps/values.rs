//! What becomes of values, touches and deletes where nodes die, stand still, or are cut off for a moment.
//!
//! What is NOT here: separations for longer than deletes are remembered ([`super::absences`]).

use super::{K, Script};
use crate::replication::sim::ablations::Ablation;
use crate::replication::sim::plan::{Op, Ttl, What};

#[test]
fn an_older_value_does_not_return_in_place_of_one_that_expired() {
    Script::new(2)
        .set(1_000, 0, Ttl::Never)
        .alone(2, 1_500, 6_000)
        .set(2_000, 0, Ttl::Seconds(1))
        .chatter(4_000, 0)
        .chatter(4_100, 1)
        .chatter(4_200, 2)
        .needs_the_rule_that_is_without(Ablation::NoLostFloors);
}

#[test]
fn an_older_value_does_not_return_in_place_of_one_that_was_evicted() {
    Script::new(2)
        .set(1_000, 0, Ttl::Never)
        .alone(2, 1_500, 6_000)
        .set(2_000, 0, Ttl::Never)
        .at(3_000, What::Evict { node: 0, key: K })
        .at(3_000, What::Evict { node: 1, key: K })
        .chatter(4_000, 0)
        .chatter(4_100, 1)
        .chatter(4_200, 2)
        .needs_the_rule_that_is_without(Ablation::NoLostFloors);
}

#[test]
fn the_touch_of_a_value_that_is_gone_does_not_hide_a_newer_value() {
    Script::new(12)
        .set(1_000, 0, Ttl::Never)
        .alone(0, 1_500, 3_500)
        .set(2_000, 1, Ttl::Never)
        .touch(2_500, 0, Ttl::Seconds(1_000))
        .at(2_600, What::Evict { node: 0, key: K })
        .ends_well();
}

#[test]
fn the_touch_of_an_old_value_does_not_shorten_the_life_of_a_newer_one() {
    Script::new(12)
        .set(1_000, 0, Ttl::Never)
        .alone(0, 1_500, 3_500)
        .set(2_000, 1, Ttl::Never)
        .touch(2_500, 0, Ttl::Seconds(2))
        .ends_well();
}

#[test]
fn a_touch_that_lets_a_value_expire_reaches_who_was_away_when_it_expired() {
    Script::new(12)
        .set(1_000, 1, Ttl::Never)
        .apart(1, 2, 1_500, 6_000)
        .touch(2_000, 2, Ttl::Seconds(1))
        .ends_well();
}

#[test]
fn a_node_that_stood_still_has_what_a_dead_node_told_all_others_when_it_serves_again() {
    Script::new(12)
        .set(1_000, 0, Ttl::Never)
        .at(1_500, What::Freeze { node: 2 })
        .set(4_000, 0, Ttl::Never)
        .dies(0, 5_000)
        .at(6_500, What::Thaw { node: 2 })
        .ends_well();
}

#[test]
fn what_its_writer_evicted_before_it_could_tell_a_node_comes_from_another() {
    Script::new(12)
        .apart(0, 2, 1_000, 6_000)
        .set(4_000, 2, Ttl::Never)
        .at(5_000, What::Evict { node: 2, key: K })
        .ends_well();
}

#[test]
fn a_touch_does_not_bring_a_deleted_session_back() {
    Script::new(12)
        .set(1_000, 0, Ttl::Never)
        .alone(0, 1_500, 3_500)
        .op(2_000, 1, K, Op::Delete)
        .touch(2_500, 0, Ttl::Seconds(1_000))
        .needs_the_rule_that_is_without(Ablation::TouchWrites);
}

#[test]
fn a_touch_is_not_acknowledged_before_the_record_that_was_asked_for_has_come() {
    // Node 1 hears of the touch, but has never heard of what was touched.
    let mut script = Script::new(12).apart(1, 2, 1_000, 6_000).set(1_500, 2, Ttl::Never).touch(
        1_700,
        0,
        Ttl::Seconds(1_000),
    );
    for at in (1_705..1_760).step_by(7) {
        script = script.at(at, What::Reset { one: 0, other: 1 });
    }
    script.needs_the_rule_that_is_without(Ablation::AckPastNeed);
}

#[test]
fn a_touch_of_what_a_node_has_never_heard_of_is_not_dropped() {
    Script::new(12)
        .apart(1, 2, 1_000, 6_000)
        .set(1_500, 2, Ttl::Never)
        .touch(1_700, 0, Ttl::Seconds(1_000))
        .needs_the_rule_that_is_without(Ablation::NeedIgnored);
}

#[test]
fn a_restarted_nodes_writes_are_not_taken_for_ones_already_known() {
    // Its clock is behind when it starts again: it writes at versions that its earlier life had
    // told of, and then at later ones.
    Script::new(12)
        .op(1_000, 1, 1, Op::Set { ttl: Ttl::Never })
        .dies(1, 2_000)
        .at(2_010, What::Step { node: 1, back: 4_500 })
        .alone(1, 2_020, 9_000)
        .starts(1, 2_500)
        .set(5_900, 1, Ttl::Never)
        .op(8_000, 1, 2, Op::Set { ttl: Ttl::Never })
        .needs_the_rule_that_is_without(Ablation::PositionWithoutBoot);
}

#[test]
fn what_a_peers_earlier_life_had_applied_does_not_let_a_floor_go() {
    let mut script = Script::new(12)
        .set(1_000, 0, Ttl::Never)
        .apart(3, 0, 1_500, 4_000)
        .apart(3, 1, 1_500, 2_550)
        .apart(3, 2, 1_500, 4_000)
        .op(2_000, 2, K, Op::Delete)
        .dies(1, 2_500)
        .apart(1, 0, 2_550, 5_600)
        .apart(1, 2, 2_550, 8_000)
        // It loads the old value from node 3, and hears from there no more.
        .starts(1, 2_700)
        .apart(1, 3, 3_900, 8_000);
    script.setting.nodes = 4;
    // Slow enough for floors to go between a connection's beginning and what is said on it.
    script.setting.delay = 300;
    // Few of them are.
    script.networks = 1_000;
    script.needs_the_rule_that_is_without(Ablation::EvidenceSurvivesTheLink);
}

#[test]
fn what_a_node_wrote_in_an_earlier_life_still_reaches_everybody() {
    Script::new(12)
        .apart(0, 2, 1_000, 2_050)
        .set(1_500, 0, Ttl::Never)
        .dies(0, 2_000)
        .alone(1, 2_050, 6_000)
        .starts(0, 2_500)
        .op(5_000, 0, 1, Op::Set { ttl: Ttl::Never })
        .ends_well();
}

#[test]
fn what_a_dead_node_told_only_one_of_us_reaches_the_other() {
    Script::new(12)
        .apart(0, 2, 1_000, 3_000)
        .set(1_500, 0, Ttl::Never)
        .dies(0, 2_000)
        .needs_the_rule_that_is_without(Ablation::NoDigestRepair);
}

#[test]
fn a_value_that_its_writer_lost_is_told_on_by_whom_it_reaches_late() {
    // Node 2 restarts and hears from node 1 that the value is lost; to node 0 it is on its way.
    Script::new(12)
        .at(1_000, What::Cut { from: 1, to: 0 })
        .set(1_300, 1, Ttl::Never)
        .dies(2, 1_700)
        .at(1_700, What::Evict { node: 1, key: K })
        .starts(2, 2_050)
        .at(2_650, What::Heal { from: 1, to: 0 })
        .needs_the_rule_that_is_without(Ablation::FoundUntold);
}

#[test]
fn a_delete_by_a_dead_node_reaches_who_touches_the_value_when_it_is_about_to_expire() {
    // What is about to expire is in no sum: those of nodes 1 and 2 are the same until the touch.
    Script::new(12)
        .set(1_000, 1, Ttl::Seconds(3))
        .apart(0, 2, 1_400, 9_000)
        .op(1_900, 0, K, Op::Delete)
        .dies(0, 2_500)
        .touch(3_600, 2, Ttl::Never)
        .needs_the_rule_that_is_without(Ablation::NoDoubts);
}

#[test]
fn a_restarted_nodes_earlier_writes_are_not_taken_for_what_its_present_run_has_told() {
    // Only node 2 hears of the delete, at a version that its writer's next run, by a clock that
    // was set back, has yet to reach. It tells node 0, and node 3 must not bring the value back.
    let mut script = Script::new(12)
        .set(1_000, 0, Ttl::Never)
        .apart(1, 0, 1_500, 2_600)
        .apart(1, 3, 1_500, 2_600)
        .op(2_000, 1, K, Op::Delete)
        .apart(2, 0, 1_950, 4_000)
        .apart(2, 3, 1_950, 12_000)
        .apart(1, 3, 3_950, 12_000)
        .at(2_500, What::Kill { node: 1, quietly: true })
        .at(2_510, What::Step { node: 1, back: 1_000 })
        .apart(1, 2, 2_500, 4_000)
        .starts(1, 2_700);
    for at in (3_000..9_000).step_by(100) {
        script = script.op(at, 1, 1, Op::Set { ttl: Ttl::Never });
    }
    script.setting.nodes = 4;
    script.setting.skew = 5_000;
    script.networks = 500;
    script.needs_the_rule_that_is_without(Ablation::RunsUnsettled);
}

#[test]
fn a_loss_is_told_for_what_a_touch_let_expire_though_the_key_has_been_written_anew_since() {
    // The peer is told of the loss; of what took its place it has not heard when it says that it has
    // applied as much. Its clock may be behind the writer's, and the touch not have run out by it.
    let mut script = Script::new(100).apart(0, 1, 1_000, 4_000);
    for key in 0..6 {
        let at = 15 * key as u64;
        script = script
            .op(1_500 + at, 0, key, Op::Set { ttl: Ttl::Never })
            .op(1_510 + at, 0, key, Op::Touch { ttl: Ttl::Seconds(1) })
            .op(4_970 + at, 0, key, Op::Add { ttl: Ttl::Never });
    }
    script.setting.nodes = 2;
    script.setting.skew = 5_000;
    script.ends_well();
}

#[test]
fn what_had_expired_when_it_was_acknowledged_is_not_missed_when_its_writers_clock_is_set_back() {
    // On networks where that clock was the fastest.
    let mut script = Script::new(100)
        .alone(1, 1_500, 5_200)
        .set(4_000, 1, Ttl::Seconds(1))
        .dies(1, 6_700)
        .at(6_710, What::Step { node: 1, back: 19_000 })
        .starts(1, 6_800);
    script.setting.skew = 14_500;
    script.ends_well();
}

#[test]
fn what_is_touched_when_it_was_about_to_expire_is_not_left_out_of_a_scan() {
    // As long as it is, it is in no sum; then it is taken for known. Some key is touched in between.
    let mut script = Script::new(2)
        .op(1_000, 0, 5, Op::Set { ttl: Ttl::Never })
        .at(1_500, What::Freeze { node: 0 })
        .at(5_500, What::Thaw { node: 0 });
    for key in 0..5 {
        script = script.op(4_000, 1, key, Op::Set { ttl: Ttl::Seconds(3) }).op(
            5_560 + 20 * key as u64,
            1,
            key,
            Op::Touch { ttl: Ttl::Never },
        );
    }
    script.setting.nodes = 2;
    script.ends_well();
}

#[test]
fn what_nobody_has_is_asked_for_once_though_there_is_no_room_to_remember_that_it_is_lost() {
    // Node 2 is told of the loss by node 1, and of a later delete by node 0.
    let mut script = Script::new(12)
        .set(1_000, 0, Ttl::Never)
        .op(1_100, 0, 1, Op::Set { ttl: Ttl::Never })
        .dies(2, 2_000)
        .apart(0, 1, 2_050, 6_000)
        .at(2_500, What::Evict { node: 0, key: K })
        .at(2_500, What::Evict { node: 1, key: K })
        .op(2_600, 0, 1, Op::Delete)
        .starts(2, 3_000);
    script.setting.floors = 1;
    script.ends_well();
}

/// Node 1 writes the key, dies, and writes it again when its clock, which was set back, reads the same
/// to the millisecond.
fn a_version_given_twice(again: u64) -> Script {
    Script::new(12)
        .set(2_000, 1, Ttl::Never)
        .dies(1, 2_100)
        .at(2_200, What::Step { node: 1, back: again - 2_000 })
        .starts(1, 2_500)
        .set(again, 1, Ttl::Never)
}

#[test]
fn of_two_values_to_which_two_runs_of_a_node_gave_one_version_everybody_ends_with_the_same() {
    a_version_given_twice(7_000)
        .alone(1, 2_050, 9_000)
        .needs_the_rule_that_is_without(Ablation::ContentUncompared);
}

#[test]
fn of_two_values_of_one_version_those_end_with_the_same_who_never_met_their_writer() {
    // The one value is known to node 0 alone, the other to node 2 alone, when their writer dies again.
    a_version_given_twice(7_000)
        .apart(0, 2, 1_500, 10_000)
        .apart(1, 2, 1_500, 7_500)
        .apart(0, 1, 2_050, 12_000)
        .dies(1, 9_000)
        .needs_the_rule_that_is_without(Ablation::ContentUncompared);
}

/// Node 0 cannot hear node 1, is frozen before it can notice, and loses its connection to node 2.
#[test]
fn a_node_that_stood_still_does_not_take_an_open_connection_for_word_of_its_peer() {
    Script::new(12)
        .at(1_100, What::Cut { from: 1, to: 0 })
        .set(1_850, 1, Ttl::Never)
        .at(2_700, What::Freeze { node: 0 })
        .at(3_000, What::Reset { one: 0, other: 2 })
        .at(4_180, What::Thaw { node: 0 })
        .at(6_000, What::Heal { from: 1, to: 0 })
        .ends_well();
}

#[test]
fn of_two_touches_to_which_two_runs_of_a_node_gave_one_version_everybody_ends_with_the_same() {
    // Its second run has the value from node 2, on networks where that one's clock is behind, too.
    let mut script = Script::new(12)
        .set(1_000, 1, Ttl::Never)
        .apart(1, 2, 1_500, 2_300)
        .apart(0, 2, 1_500, 12_000)
        .touch(2_000, 1, Ttl::Seconds(1_000))
        .dies(1, 2_100)
        .at(2_200, What::Step { node: 1, back: 5_000 })
        .apart(0, 1, 2_100, 12_000)
        .starts(1, 2_500)
        .touch(7_000, 1, Ttl::Seconds(2_000));
    script.setting.skew = 14_500;
    script.ends_well();
}

#[test]
fn what_returns_to_who_has_let_go_of_its_end_is_compared_with_who_has_not() {
    // Node 1's touch lets the value expire before node 2 hears of it; node 0, which has room for one
    // floor, meets that first, and hears of the later delete before it is given the value.
    let mut script = Script::new(12)
        .apart(0, 2, 1_000, 5_000)
        .op(1_400, 2, 1, Op::Set { ttl: Ttl::Never })
        .set(1_500, 2, Ttl::Never)
        .apart(1, 2, 2_000, 9_000)
        .touch(2_100, 1, Ttl::Seconds(1))
        .op(2_200, 2, 1, Op::Delete);
    script.setting.floors = 1;
    script.needs_the_rule_that_is_without(Ablation::ReturnsUndoubted);
}

#[test]
fn what_crosses_with_a_delete_that_is_let_go_of_at_once_is_compared() {
    // Node 0's words come late, but not so late that the connection ends; node 1 has room for one floor.
    let mut script = Script::new(12)
        .op(1_000, 1, 1, Op::Set { ttl: Ttl::Never })
        .at(1_500, What::Cut { from: 0, to: 1 })
        .set(1_600, 0, Ttl::Never)
        .set(1_700, 1, Ttl::Never)
        .op(1_800, 1, K, Op::Delete)
        .op(1_900, 1, 1, Op::Delete)
        .at(2_500, What::Heal { from: 0, to: 1 });
    (script.setting.nodes, script.setting.floors) = (2, 1);
    script.needs_the_rule_that_is_without(Ablation::ReturnsUndoubted);
}

#[test]
fn who_brings_a_value_back_is_told_of_the_touch_that_had_let_it_expire() {
    // Both scan. Node 0 has passed by what it has when the value comes that it had lost, and the value is
    // not among what is lost any more when it comes to that.
    let mut script = Script::new(2).set(1_000, 1, Ttl::Never).apart(0, 1, 1_500, 5_000);
    script = script.touch(2_000, 0, Ttl::Seconds(1));
    for key in 1..5 {
        let at = 2_100 + 100 * key as u64;
        script = script.op(at, 0, key, Op::Set { ttl: Ttl::Never });
        script = script.op(at + 50, 1, key, Op::Set { ttl: Ttl::Never });
    }
    script.setting.nodes = 2;
    script.networks = 1_000;
    script.needs_the_rule_that_is_without(Ablation::FoundUntold);
}
