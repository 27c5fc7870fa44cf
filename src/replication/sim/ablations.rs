//! The rules, each taken away in turn: the checker must notice.
//!
//! What is NOT here: the rules themselves. Store and core have a switch at each, in tests only.

use super::settings::Setting;
use crate::replication::ReplicaConfig;
use crate::store::Replicated;

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ablation {
    /// Nothing: the design as it is.
    None,
    /// Nothing is remembered of what goes.
    NoFloors,
    /// Nothing is remembered of what expires or is evicted.
    NoLostFloors,
    /// A floor goes when its origin has told us.
    StableOnOriginsPeersOnly,
    /// No room for floors.
    NoFloorBudget,
    /// Room for three floors, with six keys.
    FloorBudgetOfThree,
    /// Floors go after a second, and nobody says so.
    PurgesUnsaid,
    /// Floors go after a second.
    ShortHorizon,
    /// A touch gives the value a new version.
    TouchWrites,
    /// A touch of what a node does not have is dropped.
    NeedIgnored,
    /// The stream is acknowledged although a record that was asked for has not come.
    AckPastNeed,
    /// Clocks take no notice of versions that arrive.
    NoObserving,
    /// Nobody is told of a value that was thought lost: only a trap finds this.
    FoundUntold,
    /// Who tells of a value is not told that it is gone: only a trap finds this.
    GoneUntold,
    /// News that others may not have are no reason to compare: only a trap finds this.
    NoDoubts,
    /// Who has not heard from a third node what we have is not wondered about: only a trap finds this.
    LaggardsUndoubted,
    /// What a peer has let go of still counts as known there, and is not compared once more: only a trap
    /// finds this.
    ForgottenTrusted,
    /// Who is given what is older than something it has let go of does not compare: only a trap finds this.
    ReturnsUndoubted,
    /// Digests are never compared.
    NoDigestRepair,
    /// Digests and lists tell of versions alone: only a trap finds this.
    ContentUncompared,
    /// What a peer claimed on an earlier connection still counts.
    EvidenceSurvivesTheLink,
    /// A run is taken to begin when a node hears of it.
    RunsUnsettled,
    /// A position on an earlier run's stream is taken for one on the present run's.
    PositionWithoutBoot,
    /// Records replace newer ones.
    OldestWins,
    /// Who is to wipe after a long separation keeps what it has.
    NobodyWipes,
    /// Who is to keep what it has wipes.
    EverybodyWipes,
}

impl Ablation {
    /// Every rule that can be taken away.
    pub(super) const ALL: [Ablation; 25] = [
        Ablation::NoFloors,
        Ablation::NoLostFloors,
        Ablation::StableOnOriginsPeersOnly,
        Ablation::NoFloorBudget,
        Ablation::FloorBudgetOfThree,
        Ablation::ShortHorizon,
        Ablation::PurgesUnsaid,
        Ablation::TouchWrites,
        Ablation::NeedIgnored,
        Ablation::AckPastNeed,
        Ablation::NoObserving,
        Ablation::FoundUntold,
        Ablation::GoneUntold,
        Ablation::NoDoubts,
        Ablation::LaggardsUndoubted,
        Ablation::ForgottenTrusted,
        Ablation::ReturnsUndoubted,
        Ablation::NoDigestRepair,
        Ablation::ContentUncompared,
        Ablation::EvidenceSurvivesTheLink,
        Ablation::RunsUnsettled,
        Ablation::PositionWithoutBoot,
        Ablation::OldestWins,
        Ablation::NobodyWipes,
        Ablation::EverybodyWipes,
    ];

    /// The setting without what the rule needs.
    pub(super) fn adapt(self, mut setting: Setting) -> Setting {
        match self {
            Ablation::NoFloorBudget => setting.floors = 0,
            Ablation::FloorBudgetOfThree => setting.floors = 3,
            Ablation::ShortHorizon | Ablation::PurgesUnsaid => setting.horizon = 1,
            _ => {}
        }
        setting
    }

    /// Whether what was purged too early is no excuse: these rules are about just that.
    pub(super) fn excuses_nothing(self) -> bool {
        use Ablation::{FloorBudgetOfThree, NoFloorBudget, ShortHorizon};
        matches!(self, NoFloorBudget | FloorBudgetOfThree | ShortHorizon)
    }

    /// Whether dice cannot be relied on to find it: a trap shows it. In 40,000 histories they found
    /// none of these. The study found `EvidenceSurvivesTheLink` once in 40,000, and we did
    /// `PositionWithoutBoot` once in 6,813, when digests told of versions alone.
    pub(super) fn is_rare(self) -> bool {
        use Ablation::{
            ContentUncompared, EvidenceSurvivesTheLink, ForgottenTrusted, FoundUntold, GoneUntold,
            LaggardsUndoubted, NoDoubts, PositionWithoutBoot, ReturnsUndoubted, RunsUnsettled,
        };
        matches!(
            self,
            ContentUncompared
                | EvidenceSurvivesTheLink
                | ForgottenTrusted
                | FoundUntold
                | GoneUntold
                | LaggardsUndoubted
                | NoDoubts
                | PositionWithoutBoot
                | ReturnsUndoubted
                | RunsUnsettled
        )
    }

    pub(super) fn apply(self, store: &mut Replicated, core: &mut ReplicaConfig) {
        match self {
            Ablation::NobodyWipes => core.wipes = false,
            Ablation::EverybodyWipes => core.wipes = true,
            _ => {}
        }
        let (store, core) = (&mut store.broken, &mut core.broken);
        match self {
            Ablation::None
            | Ablation::NoFloorBudget
            | Ablation::FloorBudgetOfThree
            | Ablation::ShortHorizon
            | Ablation::NobodyWipes
            | Ablation::EverybodyWipes => {}
            Ablation::NoFloors => store.no_floors = true,
            Ablation::NoLostFloors => store.no_lost_floors = true,
            Ablation::TouchWrites => store.touch_writes = true,
            Ablation::PurgesUnsaid => store.purges_unsaid = true,
            Ablation::ContentUncompared => store.content_uncompared = true,
            Ablation::NoObserving => store.no_observing = true,
            Ablation::OldestWins => store.oldest_wins = true,
            Ablation::StableOnOriginsPeersOnly => core.stable_on_origins_peers_only = true,
            Ablation::EvidenceSurvivesTheLink => core.evidence_survives_the_link = true,
            Ablation::NeedIgnored => core.need_ignored = true,
            Ablation::AckPastNeed => core.ack_past_need = true,
            Ablation::FoundUntold => core.found_untold = true,
            Ablation::LaggardsUndoubted => core.laggards_undoubted = true,
            Ablation::ForgottenTrusted => {
                core.forgotten_trusted = true;
                // Who compares once more makes good for it.
                core.returns_undoubted = true;
            }
            Ablation::ReturnsUndoubted => core.returns_undoubted = true,
            Ablation::GoneUntold => core.gone_untold = true,
            Ablation::NoDoubts => {
                core.no_doubts = true;
                // Who is told at once need not compare.
                core.gone_untold = true;
            }
            Ablation::NoDigestRepair => core.no_digest_repair = true,
            Ablation::RunsUnsettled => core.runs_unsettled = true,
            Ablation::PositionWithoutBoot => core.position_without_boot = true,
        }
    }
}
