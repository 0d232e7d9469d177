"""Print docs/scale.md's table of what is watched in the recipes that come with Ouroloop.

    python tools/watched_shares.py [--before FOLDER]

Every text is counted as long as every other one, and of refinement only the one critique that each
draft gets for sure: what a recipe's numbers of texts say alone, whatever the model writes. Nothing
is run. `--before`: a folder of the same recipes as they were; only those that differ are shown.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from ouroloop.loop.capacity.measured import Measured
from ouroloop.loop.capacity.plan import panel_of
from ouroloop.loop.capacity.tokens import num_drafts, tokens_of
from ouroloop.loop.config import Recipe
from ouroloop.loop.costs import WATCHING, Purpose, sampled, watched_share
from ouroloop.loop.recipes.recipe_file import load_recipe
from ouroloop.loop.views.progress import markdown

RECIPES = Path(__file__).resolve().parents[1] / "runs" / "recipes"
# Any length does: only the numbers of texts count.
ALIKE = Measured(
    draft_tokens=1.0,
    critique_tokens=1.0,
    revision_tokens=1.0,
    probe_tokens=1.0,
    judge_tokens=1.0,
    critiques_per_draft=0.0,
    revisions_per_draft=0.0,
)
GOAL = 0.2


def rounds_of(recipe: Recipe) -> list[dict[Purpose, float]]:
    """Texts of every round by purpose."""
    panel, _ = panel_of(recipe)
    refine = recipe.refine
    is_certain = refine.critique and refine.criticise == "all" and not refine.families
    counted = replace(ALIKE, critiques_per_draft=float(is_certain))
    return [tokens_of(recipe, panel, counted, number) for number in range(recipe.rounds + 1)]


def row_of(recipe: Recipe) -> dict[str, str]:
    """A recipe's line."""
    rounds = rounds_of(recipe)
    total = _sum(rounds)
    ordinary = [n for n in range(1, recipe.rounds + 1) if n not in recipe.monitors.baselines]
    later = rounds[ordinary[0]] if ordinary else rounds[-1]
    watching = _watching(total)
    # Drafts of a round with which the run's share would be the goal.
    drafts = num_drafts(recipe)
    learning = sampled(total) - watching
    texts = learning / drafts if drafts else recipe.rounds
    wanted = watching * (1 - GOAL) / GOAL / texts
    return {
        "recipe": recipe.name,
        "drafts a round": f"{drafts:,}",
        "watching, an ordinary round": f"{_watching(later):,.0f}",
        "share": f"{100 * watched_share(later):.0f} %",
        "watching, the run": f"{watching:,.0f}",
        "share of the run": f"{100 * watched_share(total):.0f} %",
        "drafts a round for 20 %": "-" if drafts >= wanted else f"{wanted:,.0f}",
    }


def change_of(before: Recipe, now: Recipe) -> dict[str, str]:
    """What a recipe's line was, and is."""
    old, new = row_of(before), row_of(now)
    keys = ("drafts a round", "watching, the run", "share of the run")
    return {"recipe": now.name, **{key: f"{old[key]} -> {new[key]}" for key in keys}}


def _sum(rounds: list[dict[Purpose, float]]) -> dict[Purpose, float]:
    return {purpose: sum(each[purpose] for each in rounds) for purpose in Purpose}


def _watching(tokens: dict[Purpose, float]) -> float:
    return sum(tokens[purpose] for purpose in WATCHING)


def table(before: Path | None = None) -> str:
    """The whole table, in Markdown; or what has changed since `before`."""
    with tempfile.TemporaryDirectory() as nowhere:
        # Where the recipes' data is not, every recipe is counted by its own numbers.
        os.environ["OUROLOOP_DATA"] = nowhere
        now = [load_recipe(path) for path in sorted(RECIPES.glob("*.yaml"))]
        if before is None:
            return markdown([row_of(recipe) for recipe in now])
        pairs = [(load_recipe(before / f"{recipe.name}.yaml"), recipe) for recipe in now]
        return markdown([change_of(*pair) for pair in pairs if row_of(pair[0]) != row_of(pair[1])])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="the recipes as they were")
    print(table(parser.parse_args().before))
