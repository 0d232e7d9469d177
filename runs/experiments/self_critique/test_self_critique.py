"""The arms of the self-critique study, its chains on the scripted world, its measures and goals."""

import math

import pandas as pd
import pytest
from matplotlib.figure import Figure
from scripted_world import Model, carry, recipe

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.reader import read_run
from runs.experiments.self_critique import arms, chains, findings, measure, notes, reviser
from runs.experiments.self_critique.figure import draw
from runs.experiments.self_critique.study import STUDY


def recipe_of(arm):
    return resolve({**STUDY.keys(arm, 3), "model": "arithmetic/base"})


# -- what each arm may see -------------------------------------------------


def test_the_arms_are_all_combinations_of_filter_critique_revision_and_guard():
    seen = set()
    for arm in arms.ARMS:
        found = recipe_of(arm)
        seen.add(
            (
                found.filters.gold,
                found.refine.critique,
                found.refine.revisions > 0,
                found.monitors.guard,
            )
        )
    assert len(seen) == 2**4 and len(arms.ARMS) == 2**4 + len(arms.FILTERS)


def test_as_few_drafts_as_both_has_are_drawn_of_the_same_problems():
    for filtered in arms.FILTERS:
        few, both = (recipe_of(arms.name_of(filtered, how)) for how in (arms.FEW, "both"))
        assert few.sampling == both.sampling and few.seed == both.seed
        assert not few.refine.critique and few.refine.revisions == 0


@pytest.mark.parametrize("arm", arms.ARMS)
def test_arms_differ_in_refining_filter_guard_and_number_of_problems_alone(arm):
    found, base = recipe_of(arm), recipe_of("gold_drafts")
    same = {
        "name": "",
        "refine": base.refine,
        "filters": base.filters,
        "monitors": found.monitors.model_copy(update={"guard": False}),
        "sampling": found.sampling.model_copy(update={"problems_per_round": 1}),
    }
    other = {"name": "", "sampling": base.sampling.model_copy(update={"problems_per_round": 1})}
    assert found.model_copy(update=same) == base.model_copy(update=other)
    assert found.sft["max_steps"] == arms.STEPS, "as many optimizer steps, whatever was sampled"
    # A critique that is paid for is used as a filter, and only a critique is.
    assert found.filters.critic is found.refine.critique


def test_no_arm_trains_on_what_it_is_measured_on_and_guarded_ones_draw_the_same_problems():
    setting = prepare(recipe_of("free_both"))
    asked = {p.question for p in setting.probe_set.problems}
    assert not asked & {p.question for p in (*setting.problems, *setting.demonstrations)}
    assert {p.family for p in setting.problems} == set(arms.PRACTISED)
    for filtered in arms.FILTERS:
        for refined in arms.REFINING:
            plain, guarded = (recipe_of(arms.name_of(filtered, refined, g)) for g in (False, True))
            assert plain.sampling == guarded.sampling


def test_the_start_learns_to_revise_with_and_without_a_critique_from_held_back_numbers():
    found = list(reviser.lessons())
    assert len(found) == reviser.DRAFTS + 3 * reviser.CONVERSATIONS
    critiques, revisions, direct = (found[reviser.DRAFTS + i :: 3] for i in range(3))
    wrong = []
    for (_, asked, critique), (_, answering, right), (_, directly, same) in zip(
        critiques, revisions, direct, strict=True
    ):
        # One turn, once with its critique and once without: the same draft, the same revision.
        question, draft = asked.removesuffix("\nC:\n").split("\nA:\n")
        assert answering == f"{question}\nA:\n{draft}\nC:\n{critique}\nR:\n"
        assert directly == f"{question}\nA:\n{draft}\nR:\n" and right == same
        wrong.append(critique.endswith(": wrong"))
        assert (draft == right) is not wrong[-1]
    assert sum(wrong) / len(wrong) == pytest.approx(reviser.WRONG, abs=0.05)
    learnt = {prompt.split("\nA:\n")[0] for _, prompt, _ in found}
    task = ArithmeticTask(train_families=world.FAMILIES)
    asked = {p.question for split in ("train", "heldout") for p in task.problems(split)}
    assert not {q for q in learnt if not q.startswith(("Copy", "Sort"))} & asked


# -- chains, on the scripted world -------------------------------------------------


class Reviser(Model):
    """A perfect critic, a reviser that repairs what was criticised and spoils what was not."""

    def answer(self, request):
        rest = request.prompt.partition("\nA:\n")[2]
        if rest.endswith("\nR:\n") and "\nC:\n" not in rest:
            return "answer 0"
        return super().answer(request)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two rounds with its chains, under the name of the arm `FIRST`."""
    import asyncio

    with pytest.MonkeyPatch.context() as patch:
        model = Reviser(skill=lambda number: 0.5)
        refine = {"critique": True, "revisions": 1}
        settings = recipe(name=f"{chains.FIRST}-0", rounds=1, refine=refine)
        folder = tmp_path_factory.mktemp("runs")
        _, path = carry(folder, model, settings)

        async def serve(engine, found, number):
            await engine.load(found.path / "rounds" / f"{number:03d}" / "checkpoint")

        patch.setattr(chains, "serve", serve)
        asyncio.run(chains.look(path, model.engine))
        before = len(model.engine.requests)
        asyncio.run(chains.look(path, model.engine))
        assert len(model.engine.requests) == before, "what is there is not sampled again"
    return path


@pytest.mark.slow
def test_one_draft_is_revised_in_both_ways_and_judged_by_both_critics(run):
    looked = chains.read(run, 1)
    probe = read_run(run).rounds[0].probe
    asked = probe["problem"][~probe["family"].isin(world.SKILLS)].nunique()
    assert len(looked) == asked * chains.LAST_DRAFTS
    assert len(chains.read(run, 0)) == asked * chains.DRAFTS and chains.read(run, 7) == []
    for chain in looked:
        # The scripted critic knows the truth: it rejects, and has revised, exactly what is not
        # sound, and the revision that answers it is right.
        assert chain["own_approved"] == chain["frozen_approved"] == chain["sound"]
        assert chain["revised"] is (chain["sound"] == 0) and chain["answering"] == 1
        assert chain["direct"] == 0, "every draft was revised, and spoilt, without a critique"
    assert 0 < measure.mean_of(c["right"] for c in looked) < 1


@pytest.mark.slow
def test_the_table_holds_what_was_kept_spent_and_repaired(run):
    first, last = measure.table(run)
    verdicts = read_run(run).rounds[1].verdicts
    kept = verdicts[verdicts["kept"]]
    assert last["kept"] == len(kept) and last["kept_revised"] == kept["revised"].mean() > 0
    assert last["kept_right"] == last["kept_sound"] == 1, "gold and steps filter in that recipe"
    assert last["repaired"] == 1 and math.isnan(first["kept"])
    spent = [last[f"{kind}_tokens"] for kind in ("draft", "critique", "revision")]
    assert min(spent) > 0 and sum(spent) == last["tokens"]
    assert first["draft_tokens"] == 0
    assert last["own_accuracy"] == last["frozen_accuracy"] and first["own_accuracy"] > 0.5
    main = [c for c in chains.read(run, 1) if c["family"] == "sum2"]
    gained = 1 - measure.mean_of(c["right"] for c in main)
    assert last["answering_sum2"] == pytest.approx(gained)
    assert last["direct_sum2"] == pytest.approx(gained - 1)


def test_a_critic_is_measured_on_readable_verdicts_and_on_every_probability():
    def chain(sound, approved, probability):
        who = {"own_approved": approved, "own_probability": probability}
        return {"sound": sound, **who, "frozen_approved": sound, "frozen_probability": sound}

    found = measure.critics(
        [chain(1.0, 1.0, 0.9), chain(1.0, None, None), chain(0.0, 1.0, 0.8), chain(0.0, 0.0, 0.1)]
    )
    assert found["own_accuracy"] == 0.75 and found["own_approves_wrong"] == 0.5
    assert found["own_over"] == pytest.approx((0.9 - 1 + 0.8 + 0.1) / 3)
    assert found["own_unreadable"] == 0.25 and found["frozen_unreadable"] == 0
    assert found["frozen_accuracy"] == 1 and found["frozen_over"] == 0
    assert all(math.isnan(value) for value in measure.critics([]).values())


def test_token_confidence_is_compared_with_the_truth_and_ranked():
    drawn = pd.DataFrame({"nll": [0.0, 0.0, 1.0, None], "correct": [1.0, 1.0, 0.0, 1.0]})
    found = measure.by_tokens(drawn, "token")
    assert found["token_confidence"] == pytest.approx((2 + math.exp(-1)) / 3)
    assert found["token_gap"] == pytest.approx(math.exp(-1) / 3) and found["token_auroc"] == 1
    nothing = measure.by_tokens(drawn[drawn["nll"] > 5], "token")
    assert all(math.isnan(value) for value in nothing.values())


def test_a_revision_is_repaired_or_spoilt_by_its_draft():
    item = next(p for p in ArithmeticTask().problems("train") if p.family == "sum2")
    good, bad = world.demonstrate(item, "column"), "answer 0"

    def sample(approved, draft, *revisions):
        parts = [{"text": text} for text in revisions]
        said = {"draft": {"text": draft}, "critiques": [{"approved": approved}]}
        return {"problem_id": item.id, **said, "revisions": parts}

    asked = [sample(False, bad, good), sample(False, bad, bad), sample(False, good, bad)]
    asked.append(sample(None, good))
    found = measure.changed(asked, {item.id: item}, ArithmeticTask())
    assert found == {"repaired": 0.5, "spoilt": 1.0, "unreadable": 0.25}


# -- goals and page -------------------------------------------------


COLUMNS = (
    *("pass_1", "greedy", "pass_k", "tail_pass_1", "dcp", "overconfidence", "over_others"),
    *("token_gap", "others_token_gap", "token_auroc", "others_token_auroc"),
    *("own_accuracy", "frozen_accuracy", "own_approves_wrong", "frozen_approves_wrong"),
    *(
        "own_over",
        "own_unreadable",
        "unreadable",
        "kept_right",
        "kept_revised",
        "repaired",
        "spoilt",
    ),
    *("draft_tokens", "critique_tokens", "revision_tokens"),
    *(f"{family}_pass_1" for family in measure.OTHERS),
    *(f"{way}_{part}" for way in measure.WAYS for part in measure.PARTS),
)


def ended(better, seed, tokens=1000.0, dcp=0.1, over=(-0.1, -0.3)):
    """A run of one round; seeds differ by thousandths."""
    rows = []
    for number in (0, 1):
        value = 0.5 + number * (better + seed / 1000)
        row = dict.fromkeys(COLUMNS, value)
        row |= {"round": float(number), "action": "continue", "kept": 100.0, "alive": 4.0}
        row |= {"tokens": tokens * number, "dcp": (0.2, dcp + seed / 1000)[number]}
        gap = over[number] - number * seed / 1000
        row |= dict.fromkeys(("overconfidence", "over_others", "token_gap"), gap)
        rows.append(row | {"others_token_gap": gap})
    return rows


def results_of(helps, **changes):
    """Three seeds of every arm; those that refine are better by `helps`."""
    found = {}
    for filtered in arms.FILTERS:
        for refined in arms.REFINING:
            for guarded in (False, True):
                better = 0.1 + helps * list(arms.REFINING).index(refined)
                dcp = 0.15 if guarded else 0.1
                # The spread over seeds differs from arm to arm, or differences would have none.
                found[arms.name_of(filtered, refined, guarded)] = {
                    seed: ended(better, seed * (1 + better + dcp), dcp=dcp, **changes)
                    for seed in range(3)
                }
        found[arms.name_of(filtered, arms.FEW)] = {s: ended(0.1, s / 2) for s in range(3)}
    return found


def met(results):
    return {goal.asks: goal.met for goal in findings.goals(results)}


def test_goals_are_met_by_the_effect_and_not_by_its_opposite():
    helps, harms = met(results_of(0.05)), met(results_of(-0.05))
    asked = [
        asks
        for asks in helps
        if any(w in asks for w in (" over more", "over a direct", "over the"))
    ]
    assert len(asked) == 16
    assert all(helps[asks] is True and harms[asks] is False for asks in asked)
    assert all(helps[asks] for asks in helps if "DCP kept" in asks)
    assert set(met({}).values()) == {None}


def test_calibration_is_a_distance_so_that_both_sides_of_zero_count():
    further = met(results_of(0.05, over=(-0.1, -0.3)))
    nearer = met(results_of(0.05, over=(-0.3, 0.1)))
    asked = [asks for asks in further if "further from calibrated" in asks]
    assert len(asked) == 4
    assert all(further[asks] is True and nearer[asks] is False for asks in asked)


def test_a_critic_that_is_forgotten_is_seen_between_the_first_round_and_the_last():
    def eroded(by):
        runs = {}
        for seed in range(3):
            rows = ended(0.1, seed)
            later = {name: rows[-1][name] + by + seed / 500 for name in ("spoilt", "unreadable")}
            runs[seed] = [*rows, {**rows[-1], **later, "repaired": 0.5 - by - seed / 500}]
            runs[seed][1] = {**runs[seed][1], "repaired": 0.5}
        return dict.fromkeys(("gold_both", "free_critique"), runs)

    assert {goal.met for goal in findings.eroding(eroded(0.1))} == {True}
    assert {goal.met for goal in findings.eroding(eroded(-0.1))} == {False}


def test_unequal_tokens_are_a_goal_that_is_missed():
    found = results_of(0.05)
    (asks,) = [asks for asks in met(found) if "of the tokens of `both`" in asks]
    assert met(found)[asks] is True
    found["free_direct"] = {seed: ended(0.1, seed, tokens=1200.0) for seed in range(3)}
    assert met(found)[asks] is False
    del found["free_direct"]
    assert met(found)[asks] is None, "not known while an arm is missing"


def test_the_page_shows_differences_families_calibration_and_tokens():
    found = results_of(0.05)
    lines = notes.notes(found)
    assert any(line.startswith("| gold_both - gold_drafts | 15.") for line in lines)
    assert any(line.startswith("| free_both_guarded - free_both |") for line in lines)
    assert sum(line.startswith("| the start |") for line in lines) == len(measure.WAYS) + 1
    assert notes.notes({}), "the tables have heads before anything is finished"
    figure = Figure()
    draw(found, figure)
    assert len(figure.axes) == 4


def test_a_round_that_kept_nothing_adds_nothing_to_the_share_of_revisions():
    rows = ended(0.1, 0)
    rows.append({**rows[-1], "kept": 0.0, "kept_revised": math.nan})
    assert findings.revised(rows) == pytest.approx(rows[1]["kept_revised"])
