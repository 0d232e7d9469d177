"""A frozen judge that is no model: parts of one's own that score the probe set's answers."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
from scripted_world import BY_QUESTION, Model, carry, small

from ouroloop.loop import checks
from ouroloop.loop.checks import Level
from ouroloop.loop.config import ProbeConfig
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.folder.store import read_json
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.rows import ProbeRow
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages import judgement

SCORER = '''
import numpy as np


class Discreet:
    """Says of no one where he is."""

    def __init__(self, low=0.25):
        self.low = low

    def score(self, problem, text):
        if text.startswith("Nobody"):
            raise ValueError("unheard of")
        if text.startswith("Max"):
            return None
        return np.float32(self.low if "is here" in text else 1)


class Broken:
    def __init__(self, value=None):
        self.value = value

    def score(self, problem, text):
        if self.value is None:
            raise RuntimeError("no such model")
        return self.value


class Silent:
    name = "silent"

    def judge(self, cases, alive):
        return [False] * len(cases)


class Both(Silent):
    def score(self, problem, text):
        return 1.0
'''


class Assistant(Model):
    """Says where someone is in most of its drafts, once it is trained in all of them."""

    def answer(self, request):
        rng = random.Random(request.seed)
        who = rng.choices(("Eva is here", "Nobody is here", "Max is here", "Well"), (6, 1, 1, 2))[0]
        return f"{'Eva is here' if self.round else who}\n{super().answer(request)}"


def watched(folder, **judge):
    (folder / "own.py").write_text(SCORER)
    keys = {"rounds": 1, "refine": {"critique": False, "revisions": 0}}
    keys |= {"dataset": {"min_examples": 1}, "filters": {"steps": False}}
    found = small(**keys)
    raw = {**found.to_json(), "judge": {"scorers": {"discreet": "own.py:Discreet"}, **judge}}
    return resolve(raw, base=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    lines = [
        {"question": question, "text": text, "principle": "discreet", "approve": approve}
        for i, question in enumerate(sorted(BY_QUESTION)[:8])
        # The last one is wrongly labelled, so the scorer errs once.
        for text, approve in [("Eva is here", i == 7), ("I do not know", True)]
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    scorers = {"discreet": {"use": "own.py:Discreet", "options": {"low": 0.2}}}
    model = Assistant()
    settings = watched(folder, scorers=scorers, samples=4, items=str(folder / "items.jsonl"))
    _, path = carry(folder, model, settings)
    return model, path


@pytest.mark.slow
def test_every_answer_is_scored_by_the_part_and_nobody_is_asked(run):
    model, path = run
    assert not [request for request in model.engine.requests if "/judge/" in request.id]
    for number in (0, 1):
        round = Round.of(path, number)
        answers = {}
        for row in round.probe:
            if row.kind == "sample":
                answers.setdefault(row.problem, []).append(row.text)
        rows = [row for row in round.judgements if row.truth is None]
        assert len(rows) == sum(map(len, answers.values()))
        for row in rows:
            text = answers[row.problem][row.index]
            is_known = not text.startswith(("Nobody", "Max"))
            expected = (0.2 if "is here" in text else 1.0) if is_known else None
            assert row.approved == (None if expected is None else pytest.approx(expected))
            unheard = "ValueError in discreet: unheard of" if text.startswith("Nobody") else ""
            assert (row.text, row.principle, row.num_tokens) == (unheard, None, 0.0)


@pytest.mark.slow
def test_the_mean_score_is_a_reading_and_guarded_and_the_scorer_is_audited_once(run):
    first, second = (Round.of(run[1], number) for number in (0, 1))
    known = {reading.name.removesuffix(":all:all:probe"): reading for reading in second.readings}
    assert known["responses/approved_discreet"].value == pytest.approx(0.2)
    assert not [name for name in known if name.startswith("principle/")]
    assert np.nanmean(first.view.probe.approvals["discreet"]) > 0.3
    guarded = read_json(run[1] / "rounds" / "001" / "decision.json")
    assert "approved/discreet" in json.dumps(guarded)
    audit = next(r for r in first.readings if r.name.startswith("judge/balanced_accuracy"))
    assert audit.value == pytest.approx((8 / 9 + 1) / 2)
    assert audit.details["items"] == {"discreet": 16}


def test_the_recipe_of_a_run_names_the_part_by_its_whole_path(tmp_path):
    settings = watched(tmp_path)
    assert settings.judge.scorers["discreet"].use == f"{tmp_path}/own.py:Discreet"
    again = resolve(json.loads(json.dumps(settings.to_json())))
    assert again.judge == settings.judge
    assert prepare(again).judge.model is None


def test_a_check_says_who_scores_and_how_much(tmp_path):
    setting = prepare(watched(tmp_path, samples=3))
    found = checks.judge.check(setting, tmp_path)[0]
    assert found.level is Level.WARNING and "0 planted items" in found.what
    item = {"question": "1+1?", "text": "2", "principle": "discreet"}
    lines = [json.dumps({**item, "approve": i % 2 == 0}) for i in range(40)]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    audited = watched(tmp_path, samples=3, items=str(tmp_path / "items.jsonl"))
    found = checks.judge.check(prepare(audited), tmp_path)[0]
    assert found.level is Level.OK and "own.py:Discreet" in found.what
    assert "x 3 answers x 1 criteria" in found.what and "audited with 40 items" in found.what


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scorers": {"kind": "own.py:Kind"}}, "has no 'Kind'"),
        ({"scorers": {"kind": "own.py:Silent"}}, "has no 'score'"),
        (
            {"scorers": {"kind": "own.py:Broken"}},
            "scorers.kind: .*RuntimeError in kind: no such model",
        ),
        ({"scorers": {"kind": {"use": "own.py:Broken", "options": {"value": 1.5}}}}, "got 1.5"),
        ({"scorers": {"kind": {"use": "own.py:Broken", "options": {"value": "y"}}}}, "got 'y'"),
        ({"scorers": {"a:b": "own.py:Discreet"}}, "without a colon"),
        ({"model": "arithmetic/teacher"}, "in the place of a model"),
        ({"criteria": {"kind": ["privacy"]}}, "in the place of a model"),
        ({"scorers": {}}, "judge.scorers"),
    ],
)
def test_a_scorer_that_cannot_score_is_refused_before_anything_is_made(tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        prepare(watched(tmp_path, **changes))


@pytest.mark.parametrize(("is_baseline", "num"), [(True, 4), (False, 2)])
def test_a_round_that_takes_a_baselines_place_is_judged_as_a_baseline(tmp_path, is_baseline, num):
    probe = ProbeConfig(samples=8, baseline_samples=16)
    setting = prepare(watched(tmp_path).model_copy(update={"probe": probe}))
    problem = setting.probe_set.problems[0]
    row = ProbeRow(
        problem.id, problem.family, "typical", "sample", None, None, None, None, None, 1.0, 0.0, "a"
    )
    refiner = SimpleNamespace(recipe=setting.recipe, round=5, is_baseline=is_baseline)
    cases = judgement._cases(refiner, setting.judge, [row] * 4, [problem])
    assert len(cases) == num


def test_what_filters_does_not_watch(tmp_path):
    settings = watched(tmp_path, scorers={"kind": "own.py:Both"})
    assert prepare(settings).judge.scorers
    filters = settings.filters.model_copy(update={"extra": (settings.judge.scorers["kind"],)})
    with pytest.raises(RecipeError, match="also a rejection filter"):
        prepare(settings.model_copy(update={"filters": filters}))
