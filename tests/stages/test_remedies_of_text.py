"""What helps text that nobody scores: caps per response cluster, replay of round 0's samples."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from ouroloop.evals.tasks import Problem, Prompts
from ouroloop.loop.config import DatasetConfig, FilterConfig, InterventionConfig
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.records import Completion, Sample
from ouroloop.loop.rows import Example, PreflightAction, ProbeRow, RoundPlan
from ouroloop.loop.stages import filters, plan, preflight
from ouroloop.loop.stages import remedy as remedies
from ouroloop.loop.stages.case import Case
from ouroloop.loop.stages.dataset import Screen, Sources, assemble
from ouroloop.loop.stages.earlier import Kept
from ouroloop.loop.stages.encode import Encoder
from ouroloop.loop.stages.remedy import (
    EXHAUSTED,
    Stock,
    first_drafts,
    goes_by_cluster,
    rarest_cluster,
    remedy,
    shares_to_keep,
    stock_of,
    strategy_shares,
    top_cluster,
    top_strategy,
)
from ouroloop.loop.stages.reserve import Reserve
from ouroloop.monitors.base import Pool
from ouroloop.monitors.decision.rule import Decision
from ouroloop.monitors.names import FailureMode

PLAN = RoundPlan(3, 2, 2, (0.5, 0.9), 0.0, None, False, 100)
LIMITS = InterventionConfig()


# ----- the plan -----


@pytest.mark.parametrize(
    ("top", "before", "cap"), [(0.05, None, 0.2), (0.35, None, 0.35), (0.05, 0.1, 0.1)]
)
def test_canned_responses_are_met_with_a_cap_per_cluster_that_the_largest_of_round_0_fits_under(
    top, before, cap
):
    allowed = LIMITS.model_copy(update={"teachers": 2})
    stock = Stock(top_cluster=top, scored=False)
    new = remedy(replace(PLAN, per_cluster=before), allowed, FailureMode.CANNED, False, stock, 1)
    assert new.per_cluster == pytest.approx(cap)
    assert new.temperatures == (1.0, 1.0) and new.archive and new.replay_fraction >= 0.3
    assert (new.teachers, new.blend) == ((1, 0), 0.0)
    assert before is not None or any("cap per response cluster" in why for why in new.why)


@pytest.mark.parametrize("mode", [FailureMode.SHARPENING, None])
def test_sharpening_caps_response_clusters_only_where_no_answer_is_known_to_be_right(mode):
    stock = Stock(top_cluster=0.1)
    assert remedy(PLAN, LIMITS, mode, False, stock, 1).per_cluster is None
    free = replace(stock, scored=False)
    assert remedy(PLAN, LIMITS, mode, False, free, 1).per_cluster == LIMITS.per_cluster


def test_a_remedy_that_has_nothing_left_to_change_says_so():
    new, said, never = PLAN, [], LIMITS.model_copy(update={"blend": 0.0})
    for _ in range(12):
        new = remedy(new, never, FailureMode.CANNED, False, Stock(scored=False), 1, 3)
        said.append(new.why == (EXHAUSTED,))
    # At first it changes something, and once nothing is left nothing comes back.
    assert said == sorted(said) and not said[0] and said[-1]


def probe_row(strategy, correct):
    return ProbeRow(
        "p", "f", "typical", "sample", correct, None, strategy, None, None, 1.0, 0.0, ""
    )


def test_without_gold_the_shares_to_keep_are_those_of_all_samples():
    rows = [probe_row("a", 1.0)] * 30 + [probe_row("b", 0.0)] * 70
    assert strategy_shares(rows) == {"a": 1.0}
    assert strategy_shares(rows, gold=False) == {"a": 0.3, "b": 0.7}
    unscored = [replace(row, correct=None) for row in rows]
    assert strategy_shares(unscored) == {"a": 0.3, "b": 0.7}


def verdicts(name="cluster", **sizes):
    """So many drafts of each group; `none`: of no group."""
    groups = [None if each == "none" else each for each, num in sizes.items() for _ in range(num)]
    kinds = {"cluster": None, "strategy": None}
    return [SimpleNamespace(**{**kinds, name: group}) for group in groups]


@pytest.mark.parametrize(("top", "name"), [(top_cluster, "cluster"), (top_strategy, "strategy")])
def test_the_largest_group_is_a_share_of_all_that_round_0s_model_drafted(top, name):
    assert top(verdicts(name, a=2, b=1, none=1)) == 0.5
    assert np.isnan(top([])) and np.isnan(top(verdicts(name, none=2)))


def test_what_round_0s_model_drafted_are_round_1s_samples():
    rounds = [SimpleNamespace(verdicts=drafted) for drafted in ([], ["a"], ["b"])]
    assert first_drafts(rounds) == first_drafts(rounds[:2]) == ["a"]
    assert first_drafts(rounds[:1]) == ()


def test_the_rarest_cluster_is_one_of_a_hundredth_of_the_drafts_or_more():
    assert rarest_cluster(verdicts(a=180, b=18, c=2)) == pytest.approx(0.01)
    assert rarest_cluster(verdicts(a=181, b=18, c=1)) == pytest.approx(0.09)
    assert np.isnan(rarest_cluster([]))


@pytest.mark.parametrize(
    ("sizes", "correct", "gold", "found"),
    [
        ({"a": 93, "b": 7}, None, True, True),  # nearly every text goes by one name
        ({"none": 9}, None, True, True),  # or by none
        ({"a": 60, "b": 40}, None, True, False),  # two ways are told apart
        ({"a": 93, "b": 7}, 1.0, True, False),  # of scored text strategies are guarded
        ({"a": 93, "b": 7}, 1.0, False, True),  # unless no score may be looked at
    ],
)
def test_free_text_goes_by_clusters_where_nobody_scores_and_names_say_nothing(
    sizes, correct, gold, found
):
    first = SimpleNamespace(probe=[probe_row("a", correct)])
    drafted = verdicts("strategy", **sizes)
    assert goes_by_cluster(first, drafted, "f", gold) is found
    rounds = [SimpleNamespace(probe=first.probe), SimpleNamespace(verdicts=drafted)]
    kept = shares_to_keep(rounds, "f", gold)
    assert kept == ({} if found else {"a": 1.0}), "of free text no name is brought back"


def stock_of_text(stray):
    """800 drafts, 5 clusters, kept at random but for `stray` of them, which have another name."""
    rng = np.random.default_rng(3)
    names = np.array(["words"] * (800 - stray) + ["sum"] * stray, dtype=object)
    cluster = rng.choice(np.array(["a", "b", "c", "d", "e"], dtype=object), 800)
    kept = rng.random(800) < 0.5
    kept[-stray:] = True
    problem = np.array([f"p{i // 4}" for i in range(800)], dtype=object)
    none = np.full(800, None, dtype=object)
    pool = Pool(problem, names, none, np.full(800, np.nan), kept, none, cluster=cluster)
    drafted = [
        SimpleNamespace(strategy=name, cluster=group)
        for name, group in zip(names, cluster, strict=True)
    ]
    view = SimpleNamespace(pool=pool)
    asked = [probe_row("words", None)] * 99 + [probe_row("sum", None)]
    first = SimpleNamespace(probe=asked, view=view, verdicts=[])
    return stock_of([first, SimpleNamespace(view=view, verdicts=drafted)], "f")


@pytest.mark.parametrize("stray", [9, 16])
def test_a_stray_name_does_not_decide_how_much_free_text_is_replayed(stray, monkeypatch):
    monkeypatch.setattr(remedies, "top_answer", lambda *_: np.nan)
    found = stock_of_text(stray)
    assert found.by_cluster and found.rarest > 0.15
    assert 1 < found.selection < 1.5, "by the name it is 2 from ten samples on"
    new = remedy(replace(PLAN, temperatures=(1.0,)), LIMITS, FailureMode.DRIFT, False, found, 1)
    assert new.replay_fraction == LIMITS.replay_fraction


@pytest.mark.parametrize("by_cluster", [True, False])
def test_free_texts_that_hold_one_calculation_are_no_copies(by_cluster):
    stock = Stock(by_cluster=by_cluster, scored=False)
    assert remedy(PLAN, LIMITS, FailureMode.SHARPENING, False, stock, 1).distinct is not by_cluster
    begun = replace(PLAN, distinct=True)
    assert remedy(begun, LIMITS, FailureMode.SHARPENING, False, stock, 1).distinct


def test_where_too_little_was_kept_nothing_is_capped_as_that_would_keep_less():
    new = remedy(PLAN, LIMITS, None, False, Stock(num_kept=12), 1, starved=True)
    replay = {name: getattr(new, name) for name in ("replay_fraction", "archive", "demonstrations")}
    assert replay == {"replay_fraction": 0.5, "archive": True, "demonstrations": 0.5}
    assert new == replace(PLAN, why=new.why, **replay)


@dataclass
class Past:
    number: int
    decision: Decision
    score: float


def test_without_gold_a_run_goes_back_to_the_last_round_within_every_tolerance():
    losses = [[], [0.5], [0.9], [2.0], [6.0]]
    scores = [0.9, 0.5, 0.4, 0.3, 0.2]
    rounds = []
    for number, (found, score) in enumerate(zip(losses, scores, strict=True)):
        action = "rollback" if number == 4 else "continue"
        guards = tuple(SimpleNamespace(loss_in_tolerances=loss) for loss in found)
        rounds.append(Past(number, replace(Decision(number, action, ()), guards=guards), score))
    assert plan.unharmed(rounds) == 0, "with gold: the most accurate one"
    assert plan.unharmed(rounds, gold=False) == 2
    unscored = [replace(past, score=float("nan")) for past in rounds]
    assert plan.unharmed(unscored) == 2, "free text has no score, whatever the recipe says"


# ----- the filter -----


def case(index, cluster):
    text = Completion("", (1,), (2,), (), f"text {index}", "stop", "")
    sample = Sample(f"s{index}", f"p{index // 2}", index % 2, 1.0, text)
    problem = Problem(f"p{index // 2}", "?", None)
    return Case(sample, problem, None, None, None, None, None, cluster=cluster)


def test_no_response_cluster_has_more_than_its_share_of_what_is_kept():
    names = ["canned"] * 60 + ["a", "b", "c", "d", None] * 28
    cases = [case(i, name) for i, name in enumerate(names)]
    free = {"gold": False, "format": False, "duplicates": "none", "per_problem": None}

    def kept(**more):
        verdicts = filters.judge(cases, FilterConfig(**free, **more))
        return Counter(name for name, verdict in zip(names, verdicts, strict=True) if verdict.kept)

    assert kept() == Counter(names)
    capped = kept(per_cluster=0.25)
    named = sum(num for name, num in capped.items() if name is not None)
    assert capped["canned"] <= 0.25 * named and capped["a"] == 28 and capped[None] == 28


def test_a_cap_on_one_answer_is_spread_over_the_problems():
    # Two samples of each of fifty problems; 80 of the 100 give the answer 42.
    cases = [replace(case(i, None), answer="42" if i < 80 else f"{i}") for i in range(100)]
    free = {"gold": False, "format": False, "duplicates": "none", "per_problem": None}
    verdicts = filters.judge(cases, FilterConfig(**free, per_answer=0.2))
    kept = [c.problem.id for c, found in zip(cases[:80], verdicts, strict=False) if found.kept]
    assert len(kept) == len(set(kept)) == 20, "a fifth of all, no two of one problem"
    assert all(found.kept for found in verdicts[80:])


@pytest.mark.parametrize(
    ("stock", "cap"),
    [
        (Stock(top_strategy=0.93, scored=False), None),  # nearly every text goes by one name
        (Stock(top_strategy=0.3, scored=False), LIMITS.per_strategy),
        (Stock(scored=False), LIMITS.per_strategy),  # before round 1
        (Stock(top_strategy=0.93), LIMITS.per_strategy),  # of scored text strategies are guarded
    ],
)
def test_a_cap_per_strategy_halves_no_text_that_nobody_scores(stock, cap):
    assert remedy(PLAN, LIMITS, FailureMode.SHARPENING, False, stock, 1).per_strategy == cap


def test_a_cap_per_strategy_that_the_recipe_has_or_has_not_stays():
    stock = Stock(top_strategy=0.93, scored=False)
    none = LIMITS.model_copy(update={"per_strategy": None})
    assert remedy(PLAN, none, FailureMode.SHARPENING, False, stock, 1).per_strategy is None
    capped = replace(PLAN, per_strategy=0.6)
    assert remedy(capped, LIMITS, FailureMode.SHARPENING, False, stock, 1).per_strategy == 0.6


def test_the_plans_cap_per_cluster_reaches_the_filter_and_never_loosens_the_recipes():
    tight = replace(PLAN, per_cluster=0.1)
    assert plan.filters_of(FilterConfig(), tight).per_cluster == 0.1
    assert plan.filters_of(FilterConfig(per_cluster=0.05), tight).per_cluster == 0.05
    assert plan.filters_of(FilterConfig(per_cluster=0.3), PLAN).per_cluster == 0.3


# ----- the preflight check -----


def drawn(share, pass_rate, num=800):
    """A pool in which a cluster of this share passes the filters at its own rate."""
    rng = np.random.default_rng(0)
    unlike = np.array([None, "a", "b"], dtype=object)
    cluster = np.where(rng.random(num) < share, "canned", rng.choice(unlike, num)).astype(object)
    is_canned = cluster == "canned"
    kept = rng.random(num) < np.where(is_canned, pass_rate, 0.3)
    problem = np.array([f"p{i // 4}" for i in range(num)], dtype=object)
    none = np.full(num, None, dtype=object)
    return Pool(problem, none, none, np.full(num, np.nan), kept, none, cluster=cluster)


@pytest.mark.parametrize(
    ("share", "pass_rate", "top", "cap"),
    [
        (0.3, 0.9, 0.05, 0.2),
        (0.3, 0.9, 0.25, 0.25),
        (0.3, 0.9, 0.5, None),
        (0.3, 0.3, 0.05, None),
        (0.05, 0.9, 0.01, None),
    ],
    ids=["grows", "above round 0's largest", "no larger than then", "not favoured", "still rare"],
)
def test_a_response_cluster_that_the_filters_let_take_over_is_capped_before_training(
    share, pass_rate, top, cap
):
    recipe = resolve({"name": "x", "filters": {"gold": False, "agreement": 0.5}})
    found = preflight.check(drawn(share, pass_rate), None, PLAN, recipe, 0.5, top)
    assert found.per_cluster == cap
    if cap is not None:
        assert found.action is PreflightAction.ADJUST
        assert any("response cluster 'canned'" in reason for reason in found.reasons)
        assert preflight.adjusted(PLAN, found, guard=True).per_cluster == cap
        assert preflight.adjusted(PLAN, found, guard=False).per_cluster is None


# ----- replay of round 0's samples -----


def example(number, origin="kept", strategy=None):
    return Example(f"p{number}", (1, number), (2, number), "text", origin, 1, strategy)


class Engine:
    async def encode(self, pairs):
        return [([len(prompt)], [len(text), 0]) for prompt, text in pairs]


PROMPTS = Prompts(draft="Q {question}", critique="", revise="", approve="right", reject="wrong")


def assembled(reserve, **changes):
    """A training set, half of it replayed, around forty kept examples without a strategy."""
    own = [example(i) for i in range(40)]
    sources = Sources(kept=own, reserve=reserve, shares={})
    intended = replace(PLAN, replay_fraction=0.5, **changes)
    encoder = Encoder(Engine(), PROMPTS)
    screen = Screen({}, ())
    made, _ = asyncio.run(assemble(sources, intended, DatasetConfig(), encoder, screen, seed=0))
    return made


def test_without_demonstrations_samples_that_round_0s_model_drafted_are_replayed():
    earlier = [example(100 + i) for i in range(60)] + [example(900, "demonstration")]
    reserve = Reserve.gather([], [], [Kept.of(earlier)])
    for changes in ({}, {"archive": True, "demonstrations": 0.5}):
        made = assembled(reserve, **changes)
        assert Counter(e.origin for e in made) == Counter({"kept": 40, "baseline": 40})
        given = [e.problem_id for e in made if e.origin == "baseline"]
        assert len(set(given)) == 40 and "p900" not in given


def test_what_round_0s_model_drafts_beside_the_student_is_round_0s_too():
    drafted = [
        replace(example(200 + i), sample_id=f"002/{source}/p{i}/0")
        for i, source in enumerate(["student", "round0", "round1", "round0"] * 5)
    ]
    first = Kept.of(example(100 + i) for i in range(8))
    reserve = Reserve.gather([], [first, Kept.of(drafted)], [first])
    made = [e for e in assembled(reserve, archive=True) if e.origin == "baseline"]
    assert len(made) == 8 + 10
    assert {(e.sample_id or "//").split("/")[1] for e in made} == {"", "round0"}


@pytest.mark.parametrize("by_cluster", [True, False])
def test_beside_the_student_round_0s_model_drafts_first_where_nothing_later_is_known_to_be_sound(
    by_cluster,
):
    one = LIMITS.model_copy(update={"teachers": 1})
    new = remedy(PLAN, one, FailureMode.DRIFT, False, Stock(by_cluster=by_cluster), 3)
    assert new.teachers == ((0,) if by_cluster else (3,))


def test_what_is_learnt_from_already_is_not_replayed_and_no_more_than_there_is():
    reserve = Reserve.gather([], [], [Kept.of(example(i) for i in range(30, 50))])
    made = assembled(reserve, archive=True)
    replayed = [e.problem_id for e in made if e.origin == "baseline"]
    assert sorted(replayed) == [f"p{i}" for i in range(40, 50)]


def test_where_there_are_demonstrations_they_are_replayed_and_no_sample_of_round_0s_model():
    solved = [Problem(f"d{i}", "?", "1", "f", "typical", "solution") for i in range(100)]
    reserve = Reserve.gather(solved, [], [Kept.of(example(100 + i) for i in range(60))])
    assert {e.origin for e in assembled(reserve)} == {"kept", "demonstration"}


def test_free_text_gets_its_own_of_round_0_back_and_nothing_that_later_rounds_kept():
    """Demonstrations of one family bring nothing back of another; later rounds may be collapsed."""
    solved = [Problem(f"d{i}", "?", "1", "f", "typical", "solution") for i in range(100)]
    later = Kept.of(example(300 + i, strategy="words") for i in range(60))
    reserve = Reserve.gather(solved, [later], [Kept.of(example(100 + i) for i in range(15))])
    made = assembled(reserve, archive=True, demonstrations=0.5)
    assert Counter(e.origin for e in made) == {"kept": 40, "demonstration": 25, "baseline": 15}
    reserve = Reserve.gather([], [later], [Kept.of(example(100 + i) for i in range(15))])
    made = assembled(reserve, archive=True, demonstrations=0.5)
    assert Counter(e.origin for e in made) == {"kept": 40, "baseline": 15}


def test_strategies_that_became_rare_come_back_from_the_archive_beside_round_0s_samples():
    archived = [example(200 + i, strategy="b") for i in range(30)]
    reserve = Reserve.gather(
        [], [Kept.of(archived)], [Kept.of(example(100 + i) for i in range(60))]
    )
    own = [example(i, strategy="a") for i in range(40)]
    sources = Sources(kept=own, reserve=reserve, shares={"a": 0.5, "b": 0.5})
    intended = replace(PLAN, replay_fraction=0.5, archive=True, demonstrations=0.5)
    encoder = Encoder(Engine(), PROMPTS)
    config = DatasetConfig()
    screen = Screen({}, ())
    made, _ = asyncio.run(assemble(sources, intended, config, encoder, screen, seed=0))
    assert Counter(e.origin for e in made) == Counter({"kept": 40, "archive": 20, "baseline": 20})
    assert reserve.of_baseline(5, own, random.Random(0))
