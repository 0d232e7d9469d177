"""What a recipe for text without gold answers cannot ask for, and what its check says."""

import json

import pytest
from scripted_world import RECIPE

from ouroloop.loop.checks import Level, data, probe_set
from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages.constitution import load_constitution


@pytest.fixture
def prepared(tmp_path):
    """A setting of red-team prompts and helpful ones."""
    for family in ("red_team", "helpful"):
        rows = [{"question": f"What of {family} {i}?"} for i in range(40)]
        path = tmp_path / f"{family}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(grader="none", **sections):
        paths = [str(tmp_path / f"{family}.jsonl") for family in ("red_team", "helpful")]
        sources = [
            {"path": path, "family": family}
            for path, family in zip(paths, ("red_team", "helpful"), strict=True)
        ]
        raw = {
            **RECIPE,
            "task": {"kind": "dataset", "sources": sources, "grader": grader},
            "refine": {"form": "turns", "families": ["red_team"], "revise_when": "always"},
            **sections,
            "filters": {"gold": False, "format": False, **sections.get("filters", {})},
        }
        return prepare(resolve(raw))

    return make


def test_a_critic_that_filters_families_without_a_critique_is_refused(prepared):
    with pytest.raises(RecipeError, match=r"drafts of the family helpful without one"):
        prepared(filters={"critic": True})
    everybody = {"form": "turns", "revise_when": "always"}
    assert prepared(filters={"critic": True}, refine=everybody).recipe.filters.critic


def test_a_vote_of_texts_without_answers_is_refused(prepared):
    with pytest.raises(RecipeError, match=r"filters.agreement: 0.5.*every sample"):
        prepared(filters={"agreement": 0.5})
    assert prepared("last_number", filters={"agreement": 0.5}).recipe.filters.agreement == 0.5


def test_a_check_advises_only_what_would_not_be_refused(prepared):
    free = data.filters(prepared()).what
    assert "agreement" not in free and "critic: true}` without refine.families" in free
    assert "agreement: 0.5" in data.filters(prepared("last_number")).what


def test_gold_filtering_of_texts_without_answers_is_refused_with_what_helps_there(prepared):
    with pytest.raises(RecipeError, match=r"gold: false, format: false, critic: true}"):
        prepared(filters={"gold": True})


@pytest.mark.parametrize(("rounds", "said"), [(3, 1), (4, 0)])
def test_wording_that_no_round_is_compared_in_is_a_warning(prepared, monkeypatch, rounds, said):
    monkeypatch.setattr(probe_set, "_power", lambda *_: [])
    late = {"baselines": [0, 3], "texts_since": 3}
    found = probe_set.check(prepared(rounds=rounds, monitors=late), None)
    assert [(f.level, f.about) for f in found] == [(Level.WARNING, "wording")] * said
    assert all("wording of red_team (" in f.what for f in found)
    assert all("is never guarded" in f.what for f in found)


@pytest.mark.parametrize(
    "entry",
    [
        {"prompt": ["  "], "edit_request": "Be kind."},
        {"prompt": ["Unkind?", "CritiqueRequest: Critique:"], "edit_request": "Be kind."},
        {"prompt": "Unkind?", "edit_request": "RevisionRequest: \n\nRevision:"},
    ],
)
def test_a_principle_that_asks_nothing_is_refused(tmp_path, entry):
    path = tmp_path / "principles.json"
    path.write_text(json.dumps({"kind": entry}))
    with pytest.raises(DataError, match=r"'kind' needs .* none of them blank"):
        load_constitution(path)
