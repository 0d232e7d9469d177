"""Which failure gets which remedy, how much of it, and that the stages carry it out."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from ouroloop.evals.tasks import Problem, Prompts
from ouroloop.loop.config import DatasetConfig, FilterConfig, InterventionConfig, MonitorConfig
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.rows import Example, ProbeRow, RoundPlan
from ouroloop.loop.stages import plan
from ouroloop.loop.stages.dataset import Screen, Sources, assemble
from ouroloop.loop.stages.earlier import Kept
from ouroloop.loop.stages.encode import Encoder
from ouroloop.loop.stages.remedy import EXHAUSTED, Stock, fresh_share, remedy, strategy_shares
from ouroloop.loop.stages.reserve import Reserve
from ouroloop.monitors.decision.records import StreamId, TierEvidence
from ouroloop.monitors.decision.rule import Decision
from ouroloop.monitors.names import FailureMode, Tier

PLAN = RoundPlan(3, 2, 2, (0.5, 0.9), 0.0, None, False, 100)
LIMITS = InterventionConfig()
NOTHING_HELD_OUT = Screen({}, ())


@dataclass
class Past:
    """What planning looks at of a round."""

    number: int
    decision: Decision
    plan: RoundPlan | None = None
    score: float = 0.5


def decided(number, action, driver=None):
    """A decision; the quantity `driver`, if any, has reached WATCH's limit."""
    stream = StreamId(driver) if driver else None
    found = TierEvidence(2.0, 1.0, 0.2, stream, number, {stream: 2.0} if stream else {})
    return Decision(number, action, ("why",), evidence={Tier.WATCH: found})


def history(*actions, driver=None, plans=(), scores=None):
    """Rounds of these decisions; `plans` from round 1 on."""
    return [
        Past(
            number,
            decided(number, action, driver if action != "continue" else None),
            ([None, *plans] + [None] * len(actions))[number],
            scores[number] if scores else 0.5,
        )
        for number, action in enumerate(actions)
    ]


@pytest.mark.parametrize(
    ("temperatures", "stock", "share"),
    [
        ((1.0,), Stock(), 0.10),
        ((0.6, 1.0), Stock(), 0.4),
        ((1.0,), Stock(selection=2.0), 0.5),
        ((1.0,), Stock(selection=0.7), 0.10),
        ((1.0,), Stock(num_kept=100, rarest=0.05), 0.6),
        ((1.0,), Stock(num_kept=10_000, rarest=0.05), 0.10),
    ],
)
def test_the_fresh_share_is_the_largest_that_any_law_asks_for(temperatures, stock, share):
    assert fresh_share(temperatures, stock) == pytest.approx(share)


def test_sharpening_is_met_with_heat_distinct_calculations_and_a_cap_per_strategy():
    new = remedy(PLAN, LIMITS, FailureMode.SHARPENING, False, Stock(), back=1)
    assert (new.temperatures, new.distinct, new.per_strategy, new.archive) == (
        (1.0, 1.0),
        True,
        0.4,
        True,
    )
    assert new.replay_fraction == 0.3 and new.per_answer is None and new.tail_weight == 1.0
    assert {w.split(":")[0] for w in new.why} >= {
        "replay fraction",
        "temperatures",
        "cap per strategy",
    }


def test_a_shortcut_is_met_with_a_cap_per_answer_that_respects_answers_common_from_the_start():
    assert (
        remedy(PLAN, LIMITS, FailureMode.SHORTCUT, False, Stock(top_answer=0.001), 0).per_answer
        == 0.02
    )
    assert (
        remedy(PLAN, LIMITS, FailureMode.SHORTCUT, False, Stock(top_answer=0.3), 0).per_answer
        == 0.6
    )
    assert (
        remedy(PLAN, LIMITS, FailureMode.SHORTCUT, False, Stock(selection=4.0), 0).replay_fraction
        == 0.6
    ), "limited by replay_fraction_max"


def test_tail_narrowing_draws_more_of_the_tail():
    new = remedy(PLAN, LIMITS, FailureMode.TAIL_NARROWING, False, Stock(), 0)
    assert new.tail_weight == 3.0 and new.temperatures == PLAN.temperatures
    problems = [
        Problem(str(i), "?", "1", "f", "tail" if i % 4 == 0 else "typical") for i in range(4000)
    ]
    chosen = plan.draw(problems, replace(new, num_problems=400), seed=0)
    assert len({p.id for p in chosen}) == 400
    assert sum(p.slice == "tail" for p in chosen) / 400 == pytest.approx(0.5, abs=0.06)
    even = plan.draw(problems, replace(PLAN, num_problems=400), seed=0)
    assert sum(p.slice == "tail" for p in even) / 400 == pytest.approx(0.25, abs=0.06)


def test_earlier_teachers_come_only_when_the_recipe_allows_them():
    assert remedy(PLAN, LIMITS, FailureMode.SHARPENING, False, Stock(), 2).teachers == ()
    allowed = LIMITS.model_copy(update={"teachers": 2})
    for mode, teachers in (
        (FailureMode.DRIFT, (2, 0)),
        (FailureMode.SHARPENING, (2, 0)),
        (FailureMode.TAIL_NARROWING, ()),
    ):
        assert remedy(PLAN, allowed, mode, False, Stock(), 2).teachers == teachers
    assert remedy(PLAN, allowed, FailureMode.DRIFT, False, Stock(), 0).teachers == (0,)


@pytest.mark.parametrize("mode", list(FailureMode))
def test_weights_are_drawn_to_the_baselines_once_nothing_else_changes(mode):
    def next_of(old, limits=LIMITS):
        return remedy(old, limits, mode, False, Stock(), 1, baseline=3)

    never, new, blends = LIMITS.model_copy(update={"blend": 0.0}), PLAN, []
    for _ in range(12):
        old = replace(new, blend=0.0, blend_with=0)
        is_used_up = next_of(old, never).why == (EXHAUSTED,)
        new = next_of(old)
        assert (new.blend, new.blend_with) == ((0.3, 3) if is_used_up else (0.0, 0))
        blends.append(new.blend)
    assert blends == sorted(blends) and set(blends) == {0.0, 0.3}
    # What starves without a quantity that spoke is compared with nothing.
    none = remedy(old, LIMITS, mode, False, Stock(), 1)
    assert none.blend == 0 and none.why == (EXHAUSTED,)


def test_rounds_that_replay_nothing_are_not_met_with_more_of_it():
    args = (PLAN, LIMITS, FailureMode.DRIFT, False, Stock(), 1, 3)
    replayed, pairs = (remedy(*args, replays=replays) for replays in (True, False))
    assert replayed.replay_fraction > 0 and replayed.blend == 0
    assert (pairs.blend, pairs.blend_with) == (0.3, 3)
    assert "that round: 0 -> 3" in pairs.why
    heated = remedy(*args[:2], FailureMode.SHARPENING, *args[3:], replays=False)
    assert heated.temperatures == (1.0, 1.0) and heated.blend == 0


@pytest.mark.parametrize(
    ("objective", "init", "blend"),
    [("sft", "previous", 0.0), ("dpo", "previous", 0.3), ("dpo", "base", 0.0)],
)
def test_preference_rounds_draw_weights_to_the_baseline_unless_they_start_there(
    objective, init, blend
):
    stages = {"stages": [{"rounds": 5, "objective": objective}], "init": init}
    recipe = resolve({"name": "x", "rounds": 5, "monitors": {"guard": True}, **stages})
    past = history("continue", "reinject", driver="accuracy", plans=[plan.first_plan(recipe)])
    called = plan.next_plan(recipe, past)
    assert called.blend == blend
    past = history("continue", "reinject", "continue", plans=[plan.first_plan(recipe), called])
    after = plan.next_plan(recipe, past)
    assert (after.blend, after.temperatures) == (0, called.temperatures), "once for each call"


@pytest.mark.parametrize(("last", "drawn"), [(1, (0.0, 0)), (2, (0.0, 0)), (3, (0.3, 2))])
def test_rounds_of_pairs_are_drawn_to_no_round_whose_texts_were_not_revised_yet(last, drawn):
    """It would take back the refusals that four rounds had learnt."""
    guarded = {"guard": True, "baselines": [0, 2], "texts_since": 2}
    stages = [{"rounds": 5, "objective": "dpo"}]
    recipe = resolve({"name": "x", "rounds": 5, "monitors": guarded, "stages": stages})
    first = plan.first_plan(recipe)
    plans = [replace(first, round=n, sample_from=n - 1) for n in range(1, last + 1)]
    actions = [*["continue"] * last, "reinject"]
    called = plan.next_plan(recipe, history(*actions, driver="length/unrevised", plans=plans))
    assert (called.blend, called.blend_with) == drawn


def test_rounds_of_examples_are_drawn_to_the_round_that_the_call_is_about():
    """They learn again what was revised; without it a call would change nothing."""
    guarded = {"guard": True, "baselines": [0, 2], "texts_since": 2}
    recipe = resolve({"name": "x", "rounds": 9, "monitors": guarded})
    plans, actions = [plan.first_plan(recipe)], ["continue", "reinject"]
    for _ in range(8):
        past = history(*actions, driver="length/unrevised", plans=plans)
        plans.append(plan.next_plan(recipe, past))
        actions.append("reinject")
    drawn = [(new.blend, new.blend_with) for new in plans]
    assert (0.3, 2) not in drawn and drawn[1] == (0.0, 0) and drawn[-1] == (0.3, 0)


def test_the_quantity_that_spoke_picks_the_remedy_whatever_the_signs_are_called():
    """All ten real drifting runs were named sharpening, and were given its remedy."""
    recipe = resolve({"name": "x", "monitors": {"guard": True}})
    heat = {}
    for driver in ("accuracy", "diversity", "somebody_elses"):
        past = history("continue", "reinject", driver=driver, plans=[plan.first_plan(recipe)])
        past[1].decision = replace(past[1].decision, mode=FailureMode.SHARPENING)
        heat[driver] = plan.next_plan(recipe, past).distinct
    assert heat == {"accuracy": False, "diversity": True, "somebody_elses": True}


def test_a_rollback_doubles_the_replay_fraction_and_starts_again_from_the_given_round():
    recipe = resolve(
        {
            "name": "x",
            "dataset": {"replay_fraction": 0.2},
            "interventions": {"replay_fraction": 0.25},
        }
    )
    first = plan.next_plan(recipe, history("continue"))
    assert first.replay_fraction == 0.2 and not first.archive and first.round == 1
    past = history(
        "continue",
        "continue",
        "rollback",
        plans=(first, replace(first, round=2)),
        scores=(0.5, 0.6, 0.9),
    )
    after = plan.next_plan(recipe, past)
    assert after.round == 3
    assert (after.start_from, after.sample_from, after.replay_fraction) == (1, 1, 0.4)
    assert "rolled back: starting again from round 1" in after.why[-1]


def test_an_unguarded_run_plans_as_if_nothing_had_been_decided():
    recipe = resolve({"name": "x", "monitors": {"guard": False}})
    first = plan.next_plan(recipe, history("continue"))
    past = history("continue", "rollback", driver="diversity", plans=[first])
    second = plan.next_plan(recipe, past)
    assert second == replace(first, round=2, sample_from=1, start_from=1)


def test_the_plans_caps_reach_the_filters_and_never_loosen_the_recipes():
    filters = plan.filters_of(
        FilterConfig(duplicates="none", per_answer=0.01),
        replace(PLAN, distinct=True, per_answer=0.05, per_strategy=0.4),
    )
    assert (filters.duplicates, filters.per_answer, filters.per_strategy) == (
        "calculations",
        0.01,
        0.4,
    )
    assert plan.filters_of(FilterConfig(duplicates="none"), PLAN).duplicates == "none"


def example(strategy, number, origin="kept"):
    return Example(f"p{number}", (1, number), (2, number), "text", origin, 1, strategy)


def reserve(archived, demonstrations):
    kept = [example(s, 100 + i) for i, s in enumerate(archived)]
    items = [
        Problem(f"d{i}", f"{i}?", "1", "f", "typical", "solution", {"strategy": s})
        for i, s in enumerate(demonstrations)
    ]
    return Reserve.gather(items, [Kept.of(kept)])


def test_refilling_brings_the_strategies_back_to_their_shares_from_the_archive_first():
    own = [example("a", i) for i in range(90)] + [example("b", 200 + i) for i in range(10)]
    stock = reserve(["b"] * 60 + ["c"] * 20, ["a", "b", "c"] * 60)
    archived, demonstrations = stock.refill(
        own, 60, {"a": 0.5, "b": 0.3, "c": 0.2}, random.Random(0)
    )
    assert len(archived) + len(demonstrations) == 60
    assert (
        Counter(e.strategy for e in archived)["c"] == 20
        and Counter(e.strategy for e in archived)["a"] == 0
    )
    shares = (
        Counter(e.strategy for e in own)
        + Counter(e.strategy for e in archived)
        + Counter(p.metadata["strategy"] for p in demonstrations)
    )
    assert shares["b"] / 160 == pytest.approx(0.26, abs=0.03) and shares[
        "c"
    ] / 160 == pytest.approx(0.17, abs=0.03)


def test_what_the_archive_cannot_give_is_made_up_by_demonstrations_and_no_more_is_given():
    own = [example("a", i) for i in range(30)]
    stock = reserve(["a"] * 5, ["b"] * 3 + ["a"] * 50)
    archived, demonstrations = stock.refill(own, 20, {"a": 0.5, "b": 0.5}, random.Random(1))
    assert archived == [] and Counter(p.metadata["strategy"] for p in demonstrations)["b"] == 3
    assert len(demonstrations) == 20 and len({p.id for p in demonstrations}) == 20
    assert sum(map(len, stock.refill(own, 0, {"a": 1.0}, random.Random(0)))) == 0
    assert len(reserve([], ["a"] * 4).refill(own, 20, {}, random.Random(0))[1]) == 4


def test_what_the_model_learns_from_already_is_not_taken_from_the_archive_again():
    own = [example("b", 100)]
    archived, _ = reserve(["b"], []).refill(own, 5, {"b": 1.0}, random.Random(0))
    assert archived == []


class Engine:
    async def encode(self, pairs):
        return [([len(prompt)], [len(text), 0]) for prompt, text in pairs]


PROMPTS = Prompts(draft="Q {question}", critique="", revise="", approve="right", reject="wrong")


def assembled(intended, stock, screen=NOTHING_HELD_OUT):
    """A training set, half of it replayed, around forty kept examples of one strategy."""
    own = [example("a", i) for i in range(40)]
    sources = Sources(kept=own, reserve=stock, shares={"a": 0.3, "b": 0.7})
    intended = replace(intended, replay_fraction=0.5)
    encoder = Encoder(Engine(), PROMPTS)
    made = assemble(sources, intended, DatasetConfig(), encoder, screen, seed=0)
    return asyncio.run(made)[0]


@pytest.mark.parametrize(
    ("archive", "share", "archived"),
    [(False, 1.0, 0), (True, 0.0, 40), (True, 0.5, 20), (True, 1.0, 0)],
)
def test_after_an_alarm_a_part_of_what_is_replayed_stays_real_data_drawn_evenly(
    archive, share, archived
):
    """Real data are all that holds what the probe set does not ask.

    The archive brings back what it saw being lost.
    """
    stock = reserve(["b"] * 80, [None] * 30 + ["b"] * 10)
    made = assembled(replace(PLAN, archive=archive, demonstrations=share), stock)
    assert Counter(e.origin for e in made) == Counter(
        {"kept": 40, "archive": archived, "demonstration": 40 - archived}
    )
    given = [e.problem_id for e in made if e.origin == "demonstration"]
    assert len(set(given)) == len(given), "no demonstration twice"


def test_without_demonstrations_the_archive_gives_the_whole():
    made = assembled(replace(PLAN, archive=True, demonstrations=0.5), reserve(["b"] * 80, []))
    assert Counter(e.origin for e in made) == Counter({"kept": 40, "archive": 40})


def test_no_example_that_asks_a_held_out_question_is_trained_on():
    asked = {f"p{i}": (f"What is {i}?",) for i in range(40)}
    screen = Screen(asked, {"what is 3", "what is 7"})
    made = assembled(replace(PLAN, archive=True), reserve(["b"] * 80, []), screen)
    assert {e.problem_id for e in made if e.origin == "kept"} == set(asked) - {"p3", "p7"}


def test_a_remedy_names_the_real_part_of_what_it_replays():
    new = remedy(
        PLAN,
        LIMITS.model_copy(update={"demonstrations": 0.5}),
        FailureMode.DRIFT,
        False,
        Stock(),
        back=1,
    )
    assert new.demonstrations == 0.5
    assert "share of demonstrations in what is replayed: 1 -> 0.5" in new.why


@pytest.mark.parametrize(("most", "total", "real"), [(0.9, 0.45, 0.3), (0.4, 0.4, 0.3)])
def test_real_data_that_stood_before_the_call_stays_and_the_lost_comes_on_top(most, total, real):
    limits = LIMITS.model_copy(update={"demonstrations": 0.5, "replay_fraction_max": most})
    new = remedy(
        replace(PLAN, replay_fraction=0.3, temperatures=(1.0,)),
        limits,
        FailureMode.DRIFT,
        False,
        Stock(),
        back=1,
    )
    assert new.replay_fraction == pytest.approx(
        total
    ) and new.replay_fraction * new.demonstrations == pytest.approx(real)
    again = remedy(new, limits, FailureMode.DRIFT, False, Stock(), back=1)
    assert again.replay_fraction * again.demonstrations >= real - 1e-9


def test_demonstrations_become_examples_in_the_engines_own_tokens():
    item = Problem("d", "1+1?", "2", "f", "typical", "answer 2", {"strategy": "a"})
    (made,) = asyncio.run(Encoder(Engine(), PROMPTS).solutions([item], 4))
    assert (
        made.prompt_token_ids,
        made.completion_token_ids,
        made.origin,
        made.round,
        made.strategy,
    ) == ((6,), (8, 0), "demonstration", 4, "a")


def test_the_shares_to_keep_are_those_of_round_0s_right_answers():
    rows = [
        ProbeRow("p", "f", "typical", "sample", c, None, s, None, None, 1.0, 0.0, "")
        for c, s in [(1, "a")] * 150 + [(1, "b")] * 49 + [(0, "c")] * 50 + [(1, "d")]
    ]
    assert strategy_shares(rows) == {"a": 0.75, "b": 0.245}
    assert strategy_shares([]) == {}


def test_a_round_is_compared_with_round_0_and_the_baselines_on_its_own_way():
    def compared(number, starts, texts_since=0):
        plans = [replace(PLAN, round=n, sample_from=at) for n, at in enumerate(starts, 1)]
        rounds = history(*["continue"] * (len(plans) + 1), plans=plans)
        monitors = MonitorConfig(baselines=(0, 1, 3), texts_since=texts_since)
        return [past.number for past in plan.baselines(rounds, number, monitors)]

    straight = (0, 1, 2, 3, 4)
    assert compared(0, straight) == []
    assert compared(1, straight) == [0]
    assert compared(5, straight) == [0, 1, 3]
    assert compared(4, (0, 1, 2, 0)) == [0], "what a rollback left behind is no measure"
    # Wording is compared with the third model on the way, whatever its number.
    assert compared(6, (0, 1, 2, 3, 4, 5), texts_since=3) == [0, 1, 3]
    back_to_2 = (0, 1, 2, 3, 2, 5, 6)
    assert compared(5, back_to_2, texts_since=3) == [0, 1]
    assert compared(6, back_to_2, texts_since=3) == [0, 1, 5]
    assert compared(7, back_to_2, texts_since=3) == [0, 1, 5]
    # One that the recipe names is enough, though it comes less far.
    assert compared(5, (0, 1, 1, 3, 4), texts_since=3) == [0, 1, 3]
    back_to_0 = (0, 1, 2, 3, 0, 5, 6, 7)
    assert [compared(n, back_to_0, texts_since=3) for n in (7, 8)] == [[0], [0, 7]]


def test_a_run_goes_back_to_the_best_round_in_which_nothing_was_seen_beyond_its_tolerance():
    """Round 3 is the most accurate and not condemned, but already narrow.

    Round 2 was seen a little worse than round 0, within what is tolerated.
    """
    losses = [[], [-3.0, -1.0], [-3.0, 0.8], [-4.0, 2.7], [-4.0, 6.0]]
    actions = ["continue", "continue", "reinject", "continue", "rollback"]
    rounds = history(*actions, scores=[0.5, 0.8, 0.9, 0.95, 0.96])
    for past, found in zip(rounds, losses, strict=True):
        guards = tuple(SimpleNamespace(loss_in_tolerances=loss) for loss in found)
        past.decision = replace(past.decision, guards=guards)
    assert plan.unharmed(rounds) == 2
    assert plan.unharmed(rounds[:1]) == 0
    assert plan.unharmed([replace(rounds[0], score=float("nan"))]) == 0
