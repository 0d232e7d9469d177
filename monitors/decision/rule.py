"""From a round to one decision, with its reasons. Knows nothing of the loop.

Two tiers of e-processes (`evidence.py`) beside the frozen baseline, each over all guarded
quantities at once: WATCH (a quarter of every tolerance, alpha 0.20: cheap, reversible actions) and
HALT (the whole tolerance, alpha 0.05: back to a good checkpoint, or the end). Guarantee: in a run
in which no guarded quantity is ever worse than tolerated, P(any HALT) <= alpha, whatever the number
of rounds and the dependence between quantities. It rests on the probe's samples being drawn afresh
every round, and on the error of a baseline's mean being normal. WATCH's limit was found by
simulation (decision 021).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from ouroloop.monitors.base import Reading, RoundView
from ouroloop.monitors.decision import drawing, guarded, reasons, stakes, tiers
from ouroloop.monitors.decision.copies import copies
from ouroloop.monitors.decision.declaration import UNREVISED, WORDING, is_wording
from ouroloop.monitors.decision.drawing import Nearness
from ouroloop.monitors.decision.guarded import GuardedQuantity, Part
from ouroloop.monitors.decision.guards import Guard, Missing, Why
from ouroloop.monitors.decision.records import (
    Bets,
    Decision,
    GuardReading,
    RoundBets,
    StreamId,
)
from ouroloop.monitors.decision.responses import with_responses
from ouroloop.monitors.decision.tables import tables_of
from ouroloop.monitors.decision.weighing import Weighing, lost_of, unmeasured_of
from ouroloop.monitors.metrics.supply import nothing_passes
from ouroloop.monitors.names import Action, Tier

__all__ = ["Decision", "DecisionRule"]

Values = Mapping[str, float]
"""Estimand id -> value, of one round."""

OPEN_SHARES = ("alpha", "watch_alpha", "watch_share")
"""Settings that lie in (0, 1); all other real numbers lie in [0, 1]."""


@dataclass(frozen=True)
class DecisionRule:
    """The rule. What is guarded, and how much worse it may get, stands in `guarded.GUARDED`.

    A quantity that the baseline cannot measure is not guarded; one for which a round has too few
    samples per problem keeps the evidence that it has. The first that applies:

    * an error reading, nothing kept, or a guarded quantity that can no longer be measured: halt;
    * HALT evidence: rollback, or halt when `max_rollbacks` are used up;
    * WATCH evidence, fewer than `min_kept` samples kept, or a yield significantly below
      `min_yield`: reinject;
    * else continue.

    After an action of its own that was carried out the WATCH evidence begins anew, after a rollback
    the HALT evidence too, with its alpha spent over fresh starts (6 / (pi n)^2 for the n-th).

    Attributes:
        main_family: the family that is trained for.
        tolerances: tolerance key -> tolerance, for those that are not at their default; absolute,
            or a share of the baseline's value for a quantity that is `relative`.
        extra: guarded quantities beside the built-in ones.
        min_yield: kept / sampled, below which supply has failed.
        min_kept: samples that a training needs.
        alpha: HALT, chance of a false alarm in a whole run.
        watch_alpha: the same for WATCH.
        watch_share: the share of every tolerance that WATCH bets on.
        pass_k: k of the tail's pass@k.
        rounds: rounds planned.
        max_rollbacks: rollbacks before HALT evidence ends the run.
        tail_slice: the slice that is guarded by itself.
        num_baselines: baselines planned, those yet to come included.
        draws: of a round's probe set, at most; each picks anew what is picked anew.
        texts_since: first baseline whose wording later rounds are compared with; the streams of
            earlier ones wait, and their share of the evidence with them.
        revised: the families whose texts are meant to change until then; the others' streams do
            not wait. (): all.
    """

    main_family: str
    tolerances: Mapping[str, float] = field(default_factory=dict)
    extra: tuple[GuardedQuantity, ...] = ()
    min_yield: float = 0.02
    min_kept: int = 0
    alpha: float = 0.05
    watch_alpha: float = 0.20
    watch_share: float = 0.25
    pass_k: int = 4
    rounds: int = 20
    max_rollbacks: int = 2
    tail_slice: str = "tail"
    num_baselines: int = 1
    draws: int = 1
    texts_since: int = 0
    revised: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ValueError: a share outside (0, 1), an unknown tolerance, two quantities of one id.
        """
        # All faults at once: a reader of the message should not have to run it three times.
        wrong = [
            f"{name} = {getattr(self, name)}: expected a number in (0, 1)"
            for name in OPEN_SHARES
            if not 0 < getattr(self, name) < 1
        ]
        for name in ("rounds", "draws"):
            if getattr(self, name) < 1:
                wrong.append(f"{name} = {getattr(self, name)}: expected at least 1")
        if self.max_rollbacks < 0:
            wrong.append(f"max_rollbacks = {self.max_rollbacks}: expected at least 0")
        # A misspelt tolerance would silently leave the default in force.
        known = guarded.tolerances(self.guarded)
        for name in self.tolerances.keys() - known.keys():
            near = get_close_matches(name, known, n=1) or [", ".join(known)]
            wrong.append(f"tolerances: got {name!r}; expected a known one: {near[0]}")
        wrong += guarded.wrong_shares(self.guarded)
        if wrong:
            raise ValueError(f"DecisionRule: {'; '.join(wrong)}")

    @property
    def guarded(self) -> tuple[GuardedQuantity, ...]:
        """All declared quantities, the built-in ones first."""
        return (*guarded.GUARDED, *self.extra)

    def tolerance_of(self, declared: GuardedQuantity) -> float:
        """How much worse this quantity may get."""
        return self.tolerances.get(declared.tolerance, declared.default)

    @property
    def level(self) -> float:
        """Level of the intervals of changes, so that all those of a run hold at once."""
        return 1 - self.alpha / self.rounds

    def to_json(self) -> dict[str, Any]:
        """Every setting as a plain value: the tolerances by their keys, the quantities' ids."""
        # The tolerances stand beside the other settings, as in a recipe.
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        del own["tolerances"], own["extra"]
        given = {**guarded.tolerances(self.guarded), **self.tolerances}
        return {**own, **given, "guarded": [str(q.id) for q in self.guarded]}

    def decide(
        self,
        view: RoundView,
        baselines: RoundView | Sequence[RoundView] | None,
        readings: Sequence[Reading] = (),
        history: Sequence[Decision] = (),
        baseline_readings: Mapping[int, Sequence[Reading]] | None = None,
    ) -> Decision:
        """Judge one round.

        Args:
            view: the round's view.
            baselines: the baseline's view, frozen, best with four times as many samples per
                problem; or those of several, the first one first, at most `num_baselines`, their
                rounds fixed in advance (a round chosen for its scores would be an outlier); None
                in round 0.
            readings: of this round, from `measure_all`; an error among them halts.
            history: earlier decisions, oldest first: evidence goes on from theirs.
            baseline_readings: of the baselines, by round: where both rounds have a reading of a
                quantity's estimand, the sentences show those values.
        """
        # What ends a run does so in round 0 too, when there is nothing to compare with.
        stopped = self._stopped(view, readings)
        if isinstance(baselines, RoundView):
            baselines = [baselines]
        if stopped is not None:
            decision = stopped
        elif not baselines:
            decision = Decision(view.round, Action.CONTINUE, (reasons.ROUND_0,))
        else:
            decision = self._compare(view, baselines, readings, history, baseline_readings or {})
        copied = copies(view.probe, view.round)
        if not copied:
            return decision
        return replace(decision, reasons=(*decision.reasons, copied))

    def _stopped(self, view: RoundView, readings: Sequence[Reading]) -> Decision | None:
        """The end of the run where nothing can be weighed, or nothing be trained on."""
        failed = [r for r in readings if r.status == "error"]
        errors = tuple(f"{r.reason or r.name} (an error reading halts)" for r in failed)
        if errors:
            return Decision(view.round, Action.HALT, errors)
        if view.pool is not None and (sentence := nothing_passes(view.pool)):
            why = f"{sentence}: there is nothing to train on"
            return Decision(view.round, Action.HALT, (why,))
        return None

    def _compare(
        self,
        view: RoundView,
        baselines: Sequence[RoundView],
        readings: Sequence[Reading],
        history: Sequence[Decision],
        baseline_readings: Mapping[int, Sequence[Reading]],
    ) -> Decision:
        """Measure every guarded quantity beside every baseline, then weigh."""
        draws, missing = self._measured(view, baselines)
        unmeasured = unmeasured_of([*draws[0], *missing], self, view, baselines)
        shown = self._shown(
            drawing.joined(draws),
            baselines[0].round,
            _values(readings),
            baseline_readings,
        )
        # What is lost is not bet on, and the others' shares stay what they were.
        idle = tuple(m.id for m in missing if m.why is not Why.ABSENT)
        tiers.check_history(history)
        found = Weighing(self, view, baselines, draws, idle, history).decide(shown, unmeasured)
        lost = lost_of(missing, shown)
        if not lost:
            return found
        # The promise covers what is measured; a run that has lost a quantity is not covered.
        return replace(found, action=Action.HALT, reasons=(*lost, *found.reasons))

    def nearness(
        self, view: RoundView, baselines: Sequence[RoundView], history: Sequence[Decision] = ()
    ) -> Nearness:
        """How near the evidence is to a limit after the draws so far, a judge's verdicts apart."""
        view, *baselines = map(drawing.unjudged, (view, *baselines))
        draws, missing = self._measured(view, baselines)
        if any(m.why is Why.LOST for m in missing):  # the run ends anyway
            return drawing.CALM
        idle = [m.id for m in missing if m.why is Why.IDLE]
        return Weighing(self, view, baselines, draws, idle, history).nearness()

    def _measured(
        self, view: RoundView, baselines: Sequence[RoundView]
    ) -> tuple[list[list[Guard]], list[Missing]]:
        """The guards of every draw, the first one's first, and what that one cannot measure."""
        # The same quantities beside each baseline: they are different streams.
        first = baselines[0]
        found = [[e for b in baselines for e in self.measure(v, b, first)] for v in view.by_draw()]
        guards, *further = [[g for g in draw if isinstance(g, Guard)] for draw in found]
        # A frozen judge is asked about the first draw alone.
        part = {g.id: guarded.declared_of(self.guarded, g.id.quantity)[0].part for g in guards}
        asked = [[g for g in d if part.get(g.id) is not Part.APPROVED] for d in further]
        return [guards, *asked], [entry for entry in found[0] if isinstance(entry, Missing)]

    def measure(
        self, view: RoundView, baseline: RoundView, first: RoundView
    ) -> list[Guard | Missing]:
        """Every guarded quantity beside one baseline; `first`: the run's first one."""
        # For display: the first baseline is what everything is compared with by default.
        # (The stream's identity holds the round; the name only shows it.)
        suffix = "" if baseline is first else f", since round {baseline.round}"
        scored = tables_of(baseline.probe, view.probe, self.main_family, self.tail_slice)
        tables = with_responses(scored, baseline, view)
        found = guarded.quantities(tables, self, baseline.round, suffix)
        return [quantity.guard() for quantity in found]

    def _shown(
        self,
        guards: Iterable[Guard],
        first: int,
        after: Values,
        baseline_readings: Mapping[int, Sequence[Reading]],
    ) -> tuple[GuardReading, ...]:
        """The guards with the values that the tables of readings give them."""
        before = {number: _values(found) for number, found in baseline_readings.items()}
        out = []
        for guard in guards:
            of, name = guarded.declared_of(self.guarded, guard.id.quantity)
            estimand = None
            # The readings pick at the first baseline: at a later one they are another number.
            is_read = guard.id.baseline == first or not of.picked_at_baseline
            if is_read and name != UNREVISED:
                estimand = of.estimand(self.main_family, guard.quantity.size, name)
            then = before.get(guard.id.baseline)
            out.append(guard.reading(self.level, estimand, then, after))
        return tuple(out)

    def bets(self, draws: Sequence[Sequence[Guard]], idle: Sequence[StreamId] = ()) -> RoundBets:
        """A round's bets on every stream; NaN-free by construction.

        Args:
            draws: the quantities that were measured, draw by draw.
            idle: streams that this round cannot bet on. They stay in the mean, without growth: if
                they left it, the others' shares would no longer be fixed before the run.
        """
        # At the whole tolerance: "recovered" is promised as strictly as HALT.
        recover = [
            {g.id: tiers.flat(stakes.recovery_factors(g.stream, 1.0)) for g in guards}
            for guards in draws
        ]
        watch, halt = (
            drawing.added([self.lost(tier, guards, idle) for guards in draws])
            for tier in (Tier.WATCH, Tier.HALT)
        )
        return RoundBets(watch, halt, drawing.added(recover))

    def lost(self, tier: Tier, guards: Sequence[Guard], idle: Sequence[StreamId] = ()) -> Bets:
        """A tier's bets on a loss in one draw; `idle` as in `bets`."""
        streams = [*(g.id for g in guards), *idle]
        weighed = self.halting(streams) if tier is Tier.HALT else set(streams)
        found: Bets = {
            g.id: tiers.flat(tiers.growth(g.stream, tier, self.watch_share))
            for g in guards
            if g.id in weighed
        }
        nothing = (0.0,) * tiers.NUM_BETS
        return {**found, **{stream: nothing for stream in idle if stream in weighed}}

    def halting(self, streams: Iterable[StreamId]) -> set[StreamId]:
        """The streams that HALT weighs: those since the first baseline that can say something.

        A run that is better than at the first baseline in everything is no collapse: what it has
        lost since a later baseline is for WATCH to say. Wording waits for the baseline from which
        on it is meant to stay.
        """
        known = list(streams)
        rounds = {stream.baseline for stream in known}
        first = min(rounds, default=0)
        settled = min((r for r in rounds if r >= self.texts_since), default=first)
        return {
            stream
            for stream in known
            if stream.baseline == first
            or (stream.baseline == settled and is_wording(stream.quantity))
        }

    def planned(self, streams: Sequence[StreamId], tier: Tier) -> int:
        """Streams that a tier weighs in the whole run, those of baselines yet to come included."""
        # The shares of the evidence count all that the run may have later, so that no baseline
        # that is added changes what was promised before.
        first = min((stream.baseline for stream in streams), default=0)
        of_first = [stream for stream in streams if stream.baseline == first]
        if tier is Tier.WATCH:
            return max(len(streams), self.num_baselines * len(of_first))
        # All of them: the first baseline may lack some that a later one has (of one problem alone
        # no wording is compared; a cluster may hold enough answers only later).
        later = len(WORDING) if first < self.texts_since else 0
        return max(len(streams), len(of_first) + later)


def _values(readings: Iterable[Reading]) -> Values:
    """Estimand id -> value, of the readings that say what they are readings of."""
    named = ((getattr(r, "estimand", None), r.value) for r in readings)
    return {estimand.id: value for estimand, value in named if estimand is not None}
