//! Situations in which earlier designs lost or brought back data, step by step.
//!
//! Each is a script for a few nodes, played on many networks: it must come out well on all of them
//! as the design is, and badly on at least one without the rule that it is about. What every
//! history is held against is held against these, too.
//!
//! What is NOT here: situations found by dice ([`super::plan`]).

use super::ablations::Ablation;
use super::plan::{Action, NodeIndex, Op, Ttl, What};
use super::settings::{SETTINGS, Setting};
use super::verdict::play_plan;

/// Networks that a script is played on.
const NETWORKS: u64 = 100;

const K: usize = 0;

struct Script {
    setting: Setting,
    actions: Vec<Action>,
    networks: u64,
}

impl Script {
    /// A script with logs of `ring` entries.
    fn new(ring: usize) -> Script {
        let setting = Setting { name: "trap", ring, ..SETTINGS[0] };
        Script { setting, actions: Vec::new(), networks: NETWORKS }
    }

    fn at(mut self, at: u64, what: What) -> Script {
        self.actions.push(Action { at, what });
        self
    }

    fn op(self, at: u64, node: NodeIndex, key: usize, op: Op) -> Script {
        self.at(at, What::Client { node, key, op })
    }

    fn set(self, at: u64, node: NodeIndex, ttl: Ttl) -> Script {
        self.op(at, node, K, Op::Set { ttl })
    }

    fn touch(self, at: u64, node: NodeIndex, ttl: Ttl) -> Script {
        self.op(at, node, K, Op::Touch { ttl })
    }

    /// Both directions between the two are cut for a time.
    fn apart(self, one: NodeIndex, other: NodeIndex, from: u64, until: u64) -> Script {
        self.at(from, What::Cut { from: one, to: other })
            .at(from, What::Cut { from: other, to: one })
            .at(until, What::Heal { from: one, to: other })
            .at(until, What::Heal { from: other, to: one })
    }

    /// `node` is cut off from both others.
    fn alone(self, node: NodeIndex, from: u64, until: u64) -> Script {
        self.apart(node, (node + 1) % 3, from, until).apart(node, (node + 2) % 3, from, until)
    }

    /// Writes of other keys, so that logs forget what is before.
    fn chatter(mut self, at: u64, node: NodeIndex) -> Script {
        for key in 1..6 {
            self = self.op(at + key as u64, node, key, Op::Set { ttl: Ttl::Never });
        }
        self
    }

    fn dies(self, node: NodeIndex, at: u64) -> Script {
        self.at(at, What::Kill { node, quietly: false })
    }

    fn starts(self, node: NodeIndex, at: u64) -> Script {
        self.at(at, What::Start { node })
    }

    fn violations(&self, ablation: Ablation) -> Vec<String> {
        let mut actions = self.actions.clone();
        actions.sort_by_key(|action| action.at);
        let play = |seed, told| play_plan(&self.setting, seed, ablation, &actions, told);
        let broken = (0..self.networks).filter(|&seed| play(seed, false).violation.is_some());
        broken
            .map(|seed| format!("network {seed}:\n{}", play(seed, true).lines.join("\n")))
            .collect()
    }

    fn ends_well(&self) {
        let violations = self.violations(Ablation::None);
        assert!(violations.is_empty(), "{} times; {}", violations.len(), violations[0]);
    }

    fn needs_the_rule_that_is_without(&self, ablation: Ablation) {
        self.ends_well();
        let missed = self.violations(ablation).len();
        println!("    without {ablation:?}: {missed} of {} networks broke a rule", self.networks);
        assert!(missed > 0, "{ablation:?} makes no difference");
    }
}

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
