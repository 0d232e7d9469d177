"""A run whose reviser mostly repeats its critiques: none is learnt, and the run says so."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from scripted_world import carry

from ouroloop.loop.engines.scripted import ScriptedEngine
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.views.explain import explain
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.metrics.revisions import COPIED

# Every test carries a run out: see `make test-fast`.
pytestmark = pytest.mark.slow

CRITIQUE = "The last answer is rude and helps nobody who asks."


def answer(request):
    """Of four revisions three repeat their critique, one of them with another word."""
    stage = request.id.split("/")[-2]
    if stage.startswith("critique"):
        return CRITIQUE
    if stage.startswith("revise"):
        kind = request.seed % 4
        return ("I would rather not say.", CRITIQUE, CRITIQUE, CRITIQUE.replace("rude", "harsh"))[
            kind
        ]
    return f"Answer {request.seed % 7}."


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    lines = [json.dumps({"question": f"Tell me about place {a}"}) for a in range(80)]
    (folder / "asked.jsonl").write_text("\n".join(lines))
    recipe = resolve(
        {
            "name": "copies",
            "rounds": 1,
            "task": {
                "kind": "dataset",
                "path": "asked.jsonl",
                "grader": "none",
                "prompts": {"draft": "{question}", "chat": False},
            },
            "engine": {"weight_sync_check": False},
            "sampling": {"problems_per_round": 40, "samples_per_problem": 2},
            "refine": {"form": "paper", "revise_when": "always"},
            "filters": {"gold": False, "format": False, "duplicates": "none"},
            "dataset": {"min_examples": 2},
            "probe": {"problems": 12, "samples": 4, "pass_at": 2, "majority": 4, "critiques": 0},
            "monitors": {"canonicaliser": "templates", "guard": False, "min_yield": 0.6},
            "tracking": {"mlflow": False},
        },
        base=folder,
    )
    _, path = carry(folder, SimpleNamespace(engine=ScriptedEngine(answer)), recipe)
    return path


def test_no_copy_is_learnt(run):
    verdicts = Round.of(run, 1).verdicts
    copies = [verdict for verdict in verdicts if verdict.reasons == ("copied_critique",)]
    kept = [verdict for verdict in verdicts if verdict.kept]
    assert len(copies) + len(kept) == len(verdicts) == 80 and len(copies) > len(kept) > 5
    assert {verdict.text.strip() for verdict in kept} == {"I would rather not say."}
    assert all(verdict.like_critique >= 0.5 for verdict in copies)
    learnt = {example.text.strip() for example in Round.of(run, 1).examples}
    assert learnt == {"I would rather not say."}


def test_the_round_says_how_many_and_what_helps(run):
    table = rounds_table(read_run(run))
    (said,) = [line for line in table.splitlines() if "only repeat the critique" in line]
    assert "of 80 samples" in said and "refine.form: paper" in said
    reading = read_run(run).rounds[1].find(COPIED)
    assert 0.25 < reading.low < reading.value < reading.high < 1


def test_what_the_preflight_check_said_is_explained(run):
    found = json.loads((run / "rounds/001/preflight.json").read_text())
    (reason,) = found["reasons"]
    # Nothing is adjusted: round 1's own drafts are what round 0's model has in common.
    assert found["action"] == "pass" and "the training set starves" in reason
    assert f"Before training: pass\n  {reason}" in explain(run, 1)
    assert "Before training" not in explain(run, 0)
