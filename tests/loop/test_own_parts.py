"""Somebody's own parts in a recipe: each is one file that the core knows nothing of."""

import random
from functools import partial
from types import SimpleNamespace

import pytest
from scripted_world import RECIPE, SMALL, Model, carry, no_training

from ouroloop.loop import checks, runner
from ouroloop.loop.engines.scripted import ScriptedEngine
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.folder.store import read_json, read_rows
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.registry import build_objective
from ouroloop.loop.recipes import extensions
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.trackers.process import safe_sync

LETTERS = '''
"""Free text: letters of thanks. Nothing is right or wrong, and no number is in sight."""

from ouroloop.evals.tasks import PlainTask, Problem


class Letters(PlainTask):
    name = "letters"

    def __init__(self, people=80):
        self.people = people

    def problems(self, split):
        return [self.problem(split, i) for i in range(self.people)]

    def problem(self, split, i):
        thing = ["scarf", "book", "cake", "lamp"][i % 4]
        kind = {"train": "friend", "heldout": "cousin", "reserve": "teacher"}[split]
        name = "".join(chr(97 + int(digit)) for digit in str(1000 + i))
        question = f"Thank your {kind} {name} for the {thing}."
        solution = f"Dear {name}, the {thing} is lovely. Thank you." if split == "reserve" else None
        return Problem(f"{split}-{i}", question, None, solution=solution)
'''

OPENINGS = ["Dear friend, ", "Hello there, ", "My dear, ", "Hey, "]
MIDDLES = ["the present is lovely. ", "what a fine surprise. ", "I use your present daily. "]


def write_letters(request):
    rng = random.Random(request.seed)
    if "/critique" in request.id:
        return "A kind letter.\nverdict: right" if rng.random() < 0.7 else "Short.\nverdict: wrong"
    return rng.choice(OPENINGS) + rng.choice(MIDDLES) + "Thank you."


def free_text(tmp_path, **changes):
    (tmp_path / "letters.py").write_text(LETTERS)
    raw = {
        **RECIPE,
        "rounds": 1,
        "task": {"kind": "letters.py:Letters", "options": {"people": 60}},
        "filters": {"gold": False, "format": False, "critic": True, "duplicates": "exact"},
        **changes,
    }
    return resolve(raw, base=tmp_path)


@pytest.mark.slow
def test_a_task_without_numbers_is_one_file(tmp_path):
    model = SimpleNamespace(engine=ScriptedEngine(write_letters))
    decision, path = carry(tmp_path / "runs", model, free_text(tmp_path))
    verdicts = read_rows(path / "rounds/001/verdicts.parquet")
    assert {v["correct"] for v in verdicts} == {None} and {v["answer"] for v in verdicts} == {None}
    assert all("calculation" not in request.prompt for request in model.engine.requests)
    assert 20 < sum(v["kept"] for v in verdicts) < len(verdicts)
    assert {reason for v in verdicts for reason in v["reasons"]} <= {
        "critic",
        "duplicate",
        "per_problem",
    }
    named = {row["strategy"] for row in read_rows(path / "rounds/001/probe.parquet")}
    assert (path / "strategies.json").exists() and len(named) > 1, "step templates name strategies"
    assert decision.round == 1
    examples = read_rows(path / "rounds/001/examples.parquet")
    assert len(examples) >= 4 and all("Thank you." in e["text"] for e in examples)


def test_an_installed_task_is_named_without_a_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "installed_letters.py").write_text(LETTERS)
    info = tmp_path / "installed_letters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed-letters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ouroloop.tasks]\nletters = installed_letters:Letters\n"
    )
    raw = {"kind": "letters", "options": {"people": 20}}
    setting = prepare(free_text(tmp_path, task=raw))
    assert setting.task.name == "letters" and len(setting.problems) == 20
    with pytest.raises(RecipeError, match=r"no task is called 'leters'\. Did you mean 'letters'"):
        free_text(tmp_path, task={"kind": "leters"})


def test_a_filter_that_the_task_cannot_serve_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(RecipeError, match=r"reads no final answers.*format: false"):
        prepare(free_text(tmp_path, filters={"gold": False}))
    with pytest.raises(RecipeError, match=r"checks no steps.*steps: false"):
        prepare(free_text(tmp_path, filters={"gold": False, "format": False, "steps": True}))


PARTS = '''
from ouroloop.evals.tasks import Grade
from ouroloop.monitors.base import Reading
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.decision import blocks
from ouroloop.monitors.decision.guarded import Blocks, GuardedQuantity
from ouroloop.monitors.estimators.estimand import Estimand


class NoSevens:
    """A rejection filter over single samples."""

    name = "no_sevens"

    def __init__(self, digit="7"):
        self.digit = digit

    def judge(self, cases, alive):
        return [self.digit in case.text for case in cases]


class Capitals:
    """A metric."""

    name = "capitals"

    def measure(self, view, reference):
        share = sum(text[:1].isupper() for text in view.probe.text) / len(view.probe)
        return [Reading(Estimand("capitals/share"), share)]


class Raising(Capitals):
    name = "raising"

    def measure(self, view, reference):
        raise ZeroDivisionError("nothing to divide")


def half(tolerance, share=None, factor=1):
    "A guarded quantity: pass@1 again, under a tolerance of its own."
    return GuardedQuantity(
        id="half",
        label="half",
        statistic="half/pass@1",
        blocks=lambda tables, pass_k: Blocks(
            1, lambda rows, at: factor * blocks.right(rows, at), tables.main
        ),
        tolerance="half_loss",
        default=tolerance,
        share=share,
    )


class Notebook:
    """A tracker that writes beside the run."""

    def __init__(self, path):
        self.path = path

    def sync(self, run_path):
        with open(self.path, "a") as file:
            file.write(run_path.name + "\\n")


class Torn(Notebook):
    def sync(self, run_path):
        raise OSError("no paper")


class Polite:
    """A grader: right is who says thanks."""

    reads_answers = False

    def grade(self, problem, text):
        return Grade("thanks" in text, None, "polite")


class Pairs:
    """An objective on preference pairs: a kept revision is preferred to its draft."""

    def __init__(self, beta=0.1):
        self.beta = beta

    def check(self, sft, peft):
        pass

    def prepare(self, job, checkpoint):
        from ouroloop.loop.objectives.base import Prepared

        folder = job.examples.parent
        assert (folder / "verdicts.parquet").exists() and (folder / "samples.jsonl").exists()
        return Prepared(trainer=None, num_examples=self.beta, num_tokens=0)


class Short(NoSevens):
    """A filter that forgets a sample."""

    name = "short"

    def judge(self, cases, alive):
        return super().judge(cases, alive)[1:]


class Silent(Short):
    name = "silent"

    def judge(self, cases, alive):
        pass


class Loose:
    """Not all that a guarded quantity has."""

    id, blocks, tolerance = "loose", None, "loose_loss"


class Deaf:
    """No engine: it takes no arguments."""


class Mute(Deaf):
    def __init__(self, config, log_path):
        pass


def no_engine(config, log_path):
    return Mute(config, log_path)


def engine(config, log_path):
    from ouroloop.loop.engines.scripted import ScriptedEngine

    return ScriptedEngine(lambda request: config["extra"]["word"])
'''


def own(tmp_path, **changes):
    (tmp_path / "parts.py").write_text(PARTS)
    raw = {**RECIPE, "probe": SMALL["probe"], "rounds": 1, **changes}
    return resolve(raw, base=tmp_path)


@pytest.mark.slow
def test_a_filter_a_metric_and_a_guarded_quantity_are_part_of_the_round(tmp_path):
    settings = own(
        tmp_path,
        filters={"extra": ["parts.py:NoSevens", {"use": "parts.py:NoSevens"}]},
        monitors={
            "metrics": ["parts.py:Capitals", "parts.py:Raising"],
            "guarded": [{"use": "parts.py:half", "options": {"tolerance": 0.5}}],
        },
    )
    decision, path = carry(tmp_path / "runs", Model(lambda number: 0.9), settings)
    verdicts = read_rows(path / "rounds/001/verdicts.parquet")
    assert all(("no_sevens" in v["reasons"]) == ("7" in v["text"]) for v in verdicts)
    assert any("7" in v["text"] for v in verdicts)
    readings = {r["id"]: r for r in read_json(path / "rounds/001/readings.json")}
    assert readings["capitals/share"]["value"] == 0
    assert "nothing to divide" in readings["raising"]["reason"]
    assert decision.action != "halt", "a metric of one's own that raises ends no run"
    guards = {g["name"]: g for g in read_json(path / "rounds/001/decision.json")["guards"]}
    assert guards["half"]["tolerance"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tolerance": 0.1, "share": 1.5}, r"share = 1\.5: expected a number in \(0, 1\)"),
        ({"tolerance": 0.1, "factor": 2}, r"block scores from 0 to 2; expected scores in \[0, 1\]"),
    ],
)
def test_a_guarded_quantity_that_breaks_its_contract_is_refused_before_the_run(
    options, says, tmp_path
):
    recipe = own(tmp_path, monitors={"guarded": [{"use": "parts.py:half", "options": options}]})
    with pytest.raises(RecipeError, match=rf"^monitors\.guarded: .*'half': .*{says}"):
        checks.check(prepare(recipe), tmp_path / "run")


def test_a_grader_of_ones_own_grades_problems_from_a_file(tmp_path):
    (tmp_path / "p.jsonl").write_text(
        "".join(f'{{"question": "Write to {i}.", "answer": "x"}}\n' for i in range(40))
    )
    task = {"kind": "jsonl", "path": "p.jsonl", "grader": "parts.py:Polite"}
    settings = own(tmp_path, task=task, filters={"format": False})
    found = prepare(settings).task
    problem = found.problems("train")[0]
    assert found.grade(problem, "many thanks").correct is True
    assert found.grade(problem, "x").correct is False


@pytest.mark.slow
def test_a_tracker_sees_the_committed_rounds_and_another_may_fail(tmp_path, monkeypatch, capsys):
    note = tmp_path / "note.txt"
    settings = own(
        tmp_path,
        tracking={
            "mlflow": False,
            "trackers": [
                "parts.py:Torn",
                {"use": "parts.py:Notebook", "options": {"path": "./note.txt"}},
            ],
        },
    )
    assert settings.tracking.trackers[0].use.startswith(str(tmp_path))
    monkeypatch.setattr(runner, "build_engine", lambda recipe, log: Model().engine)
    campaign = partial(runner.Campaign, trainer=no_training)
    monkeypatch.setattr(runner, "Campaign", campaign)
    with pytest.raises(RecipeError, match="cannot be made from options"):
        extensions.build_all(extensions.TRACKER, [settings.tracking.trackers[0]])
    ok = [{**settings.tracking.trackers[0].model_dump(), "options": {"path": "x"}}]
    raw = settings.to_json()
    raw["tracking"]["trackers"] = [*ok, settings.tracking.trackers[1].model_dump()]
    # A busy machine may take longer than the end of a run waits.
    monkeypatch.setattr(runner, "safe_sync", partial(safe_sync, seconds=None))
    outcome = runner.run(resolve(raw), tmp_path / "runs")
    # At least once, at the end: while one sync works, the next round's joins the one after it.
    assert set(note.read_text().split()) == {outcome.path.name}
    assert "Torn: OSError: no paper" in outcome.tracking_error
    assert "The run is unharmed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"), [("Short", r"judge gave \d+ values"), ("Silent", "judge gave None")]
)
def test_a_filter_that_says_nothing_of_a_sample_is_named(tmp_path, name, says):
    settings = own(tmp_path, filters={"extra": [f"parts.py:{name}"]})
    with pytest.raises(RecipeError, match=rf"filters\.extra: {name.lower()}: {says}; expected one"):
        carry(tmp_path / "runs", Model(lambda number: 0.9), settings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"monitors": {"guarded": ["parts.py:Loose"]}}, "monitors.guarded: .*has no 'label'"),
        ({"engine": {"kind": "parts.py:Deaf"}}, "engine.kind: .*takes no arguments|too many"),
        ({"engine": {"kind": "parts.py:Mute"}}, "engine.kind: .*has no 'load'"),
    ],
)
def test_a_part_that_lacks_what_its_kind_needs_is_refused_before_the_run(tmp_path, changes, says):
    with pytest.raises(RecipeError, match=says):
        prepare(own(tmp_path, **changes))


def test_what_a_function_makes_is_looked_at_before_it_is_used(tmp_path):
    settings = own(tmp_path, engine={"kind": "parts.py:no_engine"}, peft=None)
    with pytest.raises(RecipeError, match=r"engine\.kind: .*no_engine gave a Mute"):
        runner.build_engine(settings, tmp_path / "engine.log")


def test_an_engine_of_ones_own_answers(tmp_path):
    engine = {"kind": "parts.py:engine", "extra": {"word": "abc"}}
    settings = own(tmp_path, engine=engine, peft=None)
    made = runner.build_engine(settings, tmp_path / "engine.log")
    assert made.answer(None) == "abc"


@pytest.mark.slow
def test_an_objective_of_ones_own_gets_the_rounds_tables(tmp_path):
    objective = {"use": "parts.py:Pairs", "options": {"beta": 5}}
    settings = own(tmp_path, objective=objective)
    seen = []

    def trainer(job, folder, report):
        made = build_objective(job.objective, job.objective_options)
        seen.append(made.prepare(job, None).num_examples)
        assert TrainingJob.from_json(job.to_json()) == job
        return no_training(job, folder, report)

    carry(tmp_path / "runs", Model(), settings, trainer)
    assert seen == [5]
    with pytest.raises(RecipeError, match="Did you mean 'beta'"):
        prepare(own(tmp_path, objective={"use": "parts.py:Pairs", "options": {"bta": 5}}))


@pytest.mark.parametrize(
    "changes",
    [
        {"filters": {"extra": ["parts.py:Nothing"]}},
        {"monitors": {"metrics": ["parts.py:Nothing"]}},
        {"monitors": {"guarded": ["parts.py:Nothing"]}},
        {"tracking": {"trackers": ["parts.py:Nothing"]}},
        {"engine": {"kind": "parts.py:Nothing"}},
        {"objective": "parts.py:Nothing"},
        {"task": {"kind": "parts.py:Nothing"}},
    ],
)
def test_a_part_that_does_not_exist_is_found_before_anything_is_made(tmp_path, changes):
    key = ".".join([*changes, *next(iter(changes.values()))]) if "objective" not in changes else ""
    with pytest.raises(ValueError, match=rf"^{key}.*no 'Nothing'"):
        prepare(own(tmp_path, **changes))
