"""Print docs/scale.md's table of what is watched in the recipes that come with Ouroloop.

    python tools/watched_shares.py [--before FOLDER | --panels]

Every text is counted as long as every other one, and of refinement only the one critique that each
draft gets for sure: what a recipe's numbers of texts say alone, whatever the model writes. Nothing
is run. `--before`: a folder of the same recipes as they were; only those that differ are shown.
`--panels`: the page's other table, what smaller probe sets of the demo would see (two minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
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

# A probe set of the demo -> the keys that differ.
ONE = "monitors.baselines=[0]"
PANELS = {
    "8 samples, 32 in a baseline, baselines 0 and 1": (),
    "the same with baseline 0 alone": (ONE,),
    "baseline 0 alone, 16 in it": (ONE, "probe.baseline_samples=16"),
    "baseline 0 alone, 4 samples, 32 in it": (
        ONE,
        "probe.samples=4",
        "probe.majority=4",
        "probe.baseline_samples=32",
    ),
}
# A column -> how the quantity's name begins in `ouroloop plan`, and the tier.
SEEN = {
    "pass@1": ("pass@1", "halt"),
    "DCP": ("distinct-correct-pair probability", "halt"),
    "ways": ("ways per problem", "halt"),
    "tail's pass@4": ("pass@4 of the tail", "halt"),
    "pass@1 of other families": ("pass@1 of the other families", "halt"),
    "ways, by WATCH": ("ways per problem", "watch"),
}


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


def panel_table() -> str:
    """What smaller probe sets of the demo would see, in Markdown."""
    return markdown([{"probe": name, **_seen(keys)} for name, keys in PANELS.items()])


def _seen(keys: tuple[str, ...]) -> dict[str, str]:
    """The losses that are seen with 80 %, at once and in the whole run."""
    settings = [word for key in keys for word in ("--set", key)]
    command = [sys.executable, "-m", "ouroloop.loop", "plan", "demo", "--json", *settings]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    powers = json.loads(out)["powers"]
    found = {}
    for column, (name, tier) in SEEN.items():
        # The first that begins so: of all problems, before those of the tail.
        power = next(power for power in powers if power["name"].startswith(name))
        by_rounds = power["smallest"][tier]
        ends = [
            by_rounds[rounds]["0.8"]
            for rounds in (min(by_rounds, key=int), max(by_rounds, key=int))
        ]
        is_relative = power["relative"]
        at_once, late = (f"{100 * x:.0f}" if is_relative else f"{x:.3f}" for x in ends)
        found[column] = f"{at_once} / {late}{' %' * is_relative}"
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="the recipes as they were")
    parser.add_argument("--panels", action="store_true", help="what smaller probe sets would see")
    asked = parser.parse_args()
    print(panel_table() if asked.panels else table(asked.before))
