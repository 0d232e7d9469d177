"""What a round's tokens went into, and who is spared a critique."""

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_world import Model, carry, small, uncommit

from ouroloop.loop.costs import TOTAL, WATCHED, Purpose, estimand_of
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages.costs import costs_of, read
from ouroloop.loop.trackers.points import points
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.costs import sentence, spent
from ouroloop.loop.views.endings import closing_text
from ouroloop.loop.views.reader import read_run

sys.path.insert(0, str(Path(__file__).parents[1] / "views"))

pytestmark = pytest.mark.slow


class Counting:
    """Counts what an engine samples, by round and stage, as its requests are named."""

    def __init__(self, model: Model) -> None:
        self.tokens: Counter[tuple[int, str]] = Counter()
        self.ask, model.engine.complete = model.engine.complete, self.complete

    async def complete(self, request):
        answer = await self.ask(request)
        number, *_, stage, _ = request.id.split("/")
        # The audit asks under round 0's names, so that its seeds stay the same.
        kind = "audit" if stage == "critique_canary" else stage.rstrip("0123456789")
        self.tokens[int(number), kind] += len(answer.token_ids)
        return answer


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A scripted run of two rounds whose critic filters, and what its engine counted."""
    model = Model(lambda number: 0.5)
    counting = Counting(model)
    settings = small(rounds=2, filters={"critic": True}, monitors={"clusters": {"when": "always"}})
    _, path = carry(tmp_path_factory.mktemp("runs"), model, settings)
    return counting.tokens, path


def test_every_purpose_counts_what_the_engine_sampled_for_it(counted):
    tokens, path = counted
    # The first two kinds are asked in the round; of a critique the probe asks some under one name.
    for number in (1, 2):
        found = {purpose: cost.tokens for purpose, cost in costs_of(Round.of(path, number)).items()}
        assert found[Purpose.DRAFTS] == tokens[number, "draft"] > 0
        assert found[Purpose.REVISIONS] == tokens[number, "revise"] > 0
        critiques = found[Purpose.CRITIQUES] + found[Purpose.CRITIC]
        assert critiques == tokens[number, "critique"]
        assert found[Purpose.PROBE] == tokens[number, "probe"] > 0
        assert found[Purpose.CRITIC] > 0 and found[Purpose.JUDGE] == 0
    audits = [costs_of(Round.of(path, number))[Purpose.AUDIT] for number in range(3)]
    assert sum(cost.tokens for cost in audits) == tokens[0, "audit"] > 0


def test_round_0_counts_the_samples_that_clusters_are_fitted_on_as_the_probe(counted):
    tokens, path = counted
    first = Round.of(path, 0)
    listed = sum(row.num_tokens for row in first.probe)
    assert costs_of(first)[Purpose.PROBE].tokens == tokens[0, "probe"] > 1.5 * listed


def test_a_cut_off_round_counts_what_it_did_not_ask_again(counted, tmp_path):
    model, settings = Model(lambda number: 0.5), small(rounds=1, name="resumed")
    _, path = carry(tmp_path, model, settings)
    before = read(Round.of(path, 1))
    uncommit(path, 1, "decision.json", "readings.json", "critics.parquet", "probe.parquet")
    asked = Counting(again := Model(lambda number: 0.5)).tokens
    carry(tmp_path, again, settings)
    assert asked[1, "draft"] == 0 < asked[1, "probe"]
    assert read(Round.of(path, 1)) == before


def test_the_readings_hold_the_costs_and_the_views_add_them_up(counted):
    _, path = counted
    run = read_run(path)
    found = spent(run.rounds)
    assert found.sampled == sum(round.find(TOTAL).value for round in run.rounds)
    watched = sum(
        found.tokens[purpose]
        for purpose in (Purpose.PROBE, Purpose.CRITIC, Purpose.AUDIT, Purpose.JUDGE)
    )
    assert found.watched == pytest.approx(watched / found.sampled)
    # Round 0 does nothing else but measure.
    assert run.rounds[0].find(WATCHED).value == 1.0 > run.rounds[1].find(WATCHED).value
    assert f"{100 * found.watched:.0f} % only to measure." in sentence(run.rounds)
    # The terminal's last lines, the report with MLflow's note, and MLflow's charts.
    assert sentence(run.rounds) in closing_text(run)
    assert sentence(run.rounds) in sentences(run)
    charted = points(run, run.rounds[1])
    assert charted[WATCHED.id] == run.rounds[1].find(WATCHED).value
    scored = run.rounds[1].find(estimand_of(Purpose.SCORED))
    assert scored.value > 0 and scored.details["texts"] > 4


def test_a_round_of_an_earlier_version_says_that_it_does_not_know(counted):
    _, path = counted
    old = Round.of(path, 1)
    old.memory[Round.critics.file] = tuple(replace(row, num_tokens=None) for row in old.critics)
    found = {reading.estimand: reading for reading in read(old)}
    assert math.isnan(found[WATCHED].value) and "earlier version" in found[WATCHED].reason
    assert math.isnan(found[estimand_of(Purpose.CRITIC)].value)
    assert found[estimand_of(Purpose.DRAFTS)].value > 0


# ----- who is criticised -----


def chains(folder, **refine):
    """The first round's samples under `refine`, by id, with the verdict that they got."""
    settings = small(
        rounds=1,
        refine=refine,
        sampling={"problems_per_round": 25},
        filters={"duplicates": "none", "per_problem": None},
    )
    _, path = carry(folder, Model(lambda number: 0.5), settings)
    round = Round.of(path, 1)
    return {s.id: (s, v) for s, v in zip(round.samples, round.verdicts, strict=True)}, round


@pytest.fixture(scope="module")
def everyone(tmp_path_factory):
    """Every draft criticised."""
    return chains(tmp_path_factory.mktemp("all"), criticise="all")


def test_only_what_the_filters_reject_is_criticised_and_nothing_else_changes(everyone, tmp_path):
    spared, round = chains(tmp_path, criticise="failing")
    num = Counter()
    for name, (sample, verdict) in spared.items():
        whole, _ = everyone[0][name]
        assert sample.draft == whole.draft
        if sample.critiques:
            # The same seeds: what is asked gets the same answer.
            assert (sample.critiques, sample.revisions) == (whole.critiques, whole.revisions)
            num["criticised"] += 1
        else:
            assert verdict.kept and not sample.revisions and sample.final == sample.draft
            num["spared"] += 1
    assert num["criticised"] > 10 and num["spared"] > 10
    # The critic's accuracy is still measured, on the same probe.
    assert len(round.critics) == 4 and [row.text for row in round.critics] == [
        row.text for row in everyone[1].critics
    ]
    fewer, more = (costs_of(r)[Purpose.CRITIQUES].tokens for r in (round, everyone[1]))
    assert 0 < fewer < 0.8 * more


def test_only_what_no_other_filter_rejects_is_criticised_where_the_critic_filters(tmp_path):
    settings = small(
        rounds=1,
        refine={"criticise": "undecided", "revisions": 0},
        sampling={"problems_per_round": 25},
        filters={"critic": True},
    )
    _, path = carry(tmp_path, Model(lambda number: 0.5), settings)
    round = Round.of(path, 1)
    for sample, verdict in zip(round.samples, round.verdicts, strict=True):
        is_lost = verdict.correct is not True or verdict.valid is False
        assert bool(sample.critiques) != is_lost
    assert 10 < sum(bool(sample.critiques) for sample in round.samples) < 40


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"refine": {"criticise": "failing", "revisions": 0}}, "criticise: undecided"),
        ({"refine": {"criticise": "undecided", "critique": False, "revisions": 0}}, "critique: tr"),
        ({"refine": {"criticise": "failing"}, "filters": {"critic": True}}, "undecided"),
    ],
)
def test_a_choice_that_would_spare_what_is_needed_is_refused(changes, remedy):
    with pytest.raises(RecipeError, match=remedy):
        prepare(resolve({"name": "x", "model": "arithmetic/base", **changes}))
