"""Print docs/scale.md's table of what is watched in the recipes that come with Ouroloop.

    python tools/watched_shares.py

Every text is counted as long as every other one, drafts without critiques and revisions: what a
recipe's numbers of texts say alone, whatever the model writes. Nothing is run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ouroloop.loop.capacity.measured import Measured
from ouroloop.loop.capacity.plan import panel_of
from ouroloop.loop.capacity.tokens import num_drafts, tokens_of
from ouroloop.loop.config import Recipe
from ouroloop.loop.costs import Purpose, sampled, watched_share
from ouroloop.loop.recipe_file import load_recipe
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


def row_of(recipe: Recipe) -> dict[str, str]:
    """A recipe's line."""
    panel, _ = panel_of(recipe)
    rounds = [tokens_of(recipe, panel, ALIKE, number) for number in range(recipe.rounds + 1)]
    total = {purpose: sum(each[purpose] for each in rounds) for purpose in Purpose}
    ordinary = [n for n in range(1, recipe.rounds + 1) if n not in recipe.monitors.baselines]
    later = rounds[ordinary[0]] if ordinary else rounds[-1]
    watching = sampled(total) - total[Purpose.DRAFTS]
    # Drafts of a round with which the run's share would be the goal.
    wanted = watching * (1 - GOAL) / GOAL / recipe.rounds
    drafts = num_drafts(recipe)
    return {
        "recipe": recipe.name,
        "drafts a round": f"{drafts:,}",
        "watching, an ordinary round": f"{sampled(later) - later[Purpose.DRAFTS]:,.0f}",
        "share": f"{100 * watched_share(later):.0f} %",
        "watching, the run": f"{watching:,.0f}",
        "share of the run": f"{100 * watched_share(total):.0f} %",
        "drafts a round for 20 %": "-" if drafts >= wanted else f"{wanted:,.0f}",
    }


def table() -> str:
    """The whole table, in Markdown."""
    with tempfile.TemporaryDirectory() as nowhere:
        # Where the recipes' data is not, every recipe is counted by its own numbers.
        os.environ["OUROLOOP_DATA"] = nowhere
        recipes = [load_recipe(path) for path in sorted(RECIPES.glob("*.yaml"))]
        return markdown([row_of(recipe) for recipe in recipes])


if __name__ == "__main__":
    print(table())
