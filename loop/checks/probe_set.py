"""What the probe set can show: the power analysis of `ouroloop plan` in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.config import Recipe
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.decide import decision_rule
from ouroloop.loop.views import power
from ouroloop.monitors.decision.growth import WITHIN
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.power import CHANCES
from ouroloop.monitors.names import Tier

COARSE = 0.10
"""A probe set that shows no smaller fall of pass@1 is called coarse: ten points is more than most
runs ever lose without anybody noticing."""
SIZES = (50, 100, 200, 400, 800)
"""Numbers of problems that are tried when the recipe's are too few."""

Least = Callable[[Setting, Path, int], float | None]
"""(setting, run folder, number of problems) -> the least loss that shows, if any does."""


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """The smallest fall of pass@1, or collapse of free text, that is noticed."""
    return [*_power(setting, run_path), *_wording(setting)]


def _wording(setting: Setting) -> list[Finding]:
    """A warning where no round of the run comes after the one that wording is compared with."""
    recipe = setting.recipe
    since, gold = recipe.monitors.texts_since, recipe.monitors.gold
    is_scored = gold and all(p.answer is not None for p in setting.probe_set.problems)
    if is_scored or since < recipe.rounds:
        return []
    of = f" of {', '.join(recipe.refine.families)}" if recipe.refine.families else ""
    what = (
        f"monitors.texts_since: {since}, but the last round is {recipe.rounds}: no round comes"
        f" after it, so that wording{of} (clusters, openings, entropy, length) is never guarded."
        " Name an earlier one of monitors.baselines, or raise rounds."
    )
    return [Finding(Level.WARNING, "wording", what)]


def _power(setting: Setting, run_path: Path) -> list[Finding]:
    """One finding: what size of a loss shows."""
    main = [p for p in setting.probe_set.problems if p.family == setting.probe_set.main]
    scored = sum(problem.answer is not None for problem in main)
    if not (scored and setting.recipe.monitors.gold):
        return _free(setting, run_path, bool(scored))
    if len(main) < 2:  # an error: see `data.problems`
        return []
    rounds = min(WITHIN[-1], setting.recipe.rounds)
    least = _least_loss(setting, run_path, len(main))
    size = f"{len(main)} problems x {setting.recipe.probe.samples} samples a round"
    if least is not None and least <= COARSE:
        what = f"{size} show a fall of pass@1 by {100 * least:.0f} points within {rounds} rounds"
        return [Finding(Level.OK, "probe set", what)]
    blind = "are blind: not even a fall of pass@1 to 0 shows"
    if least is not None:
        blind = f"are coarse: no fall of pass@1 below {100 * least:.0f} points shows"
    needed = _needed(_least_loss, setting, run_path, len(main))
    what = (
        f"{size} {blind} ({rounds} rounds, chance {CHANCES[0]:.0%}); {needed} show"
        f" {100 * COARSE:.0f}. Hold out more, raise probe.problems; see `ouroloop plan`."
    )
    return [Finding(Level.WARNING, "probe set", what)]


def _free(setting: Setting, run_path: Path, is_scored: bool) -> list[Finding]:
    """The smallest collapse that the guard notices in text that nobody scores."""
    num = len(setting.probe_set.problems)
    if num < 2:  # an error: see `data.problems`
        return []
    seen = _seen_at_once(setting, run_path, num)
    size = f"{num} problems x {setting.recipe.probe.samples} samples a round"
    why = "no problem of the probe set has a gold answer"
    if is_scored:
        why = "monitors.gold: false: right answers are shown and not guarded"
    # Of ten prompts a third may become one text within a round and nothing is said.
    if seen is not None and seen <= COARSE:
        what = f"{why}; {size} show at once a canned text from {seen:.0%} of the samples on"
        return [Finding(Level.OK, "probe set", what)]
    blind = "are blind: not even the same text everywhere shows at once"
    if seen is not None:
        blind = f"are coarse: a canned text below {seen:.0%} of the samples does not show at once"
    needed = _needed(_seen_at_once, setting, run_path, num)
    what = (
        f"{why}; {size} {blind} (WATCH, chance {CHANCES[0]:.0%}), and `continue` is no proof;"
        f" {needed} show {COARSE:.0%}. Hold out more, raise probe.problems; see `ouroloop plan`."
    )
    return [Finding(Level.WARNING, "probe set", what)]


def _seen_at_once(setting: Setting, run_path: Path, num_problems: int) -> float | None:
    """The share of one new text that WATCH notices in its first round; None: not even all."""
    recipe: Recipe = setting.recipe
    main = setting.probe_set.main
    (found,) = power.of_recipe(
        decision_rule(recipe, main),
        families=(),
        num_free=num_problems,
        gold=recipe.monitors.gold,
        main_family=main,
        num_samples=recipe.probe.samples,
        num_baseline_samples=recipe.probe.num_baseline_samples,
        run_path=run_path,
        only=(QuantityId.CANNED,),
    ).powers
    return found.smallest.get((Tier.WATCH, 1, CHANCES[0]))


def _least_loss(setting: Setting, run_path: Path, num_problems: int) -> float | None:
    """The least fall of pass@1 that HALT notices; None: not even a complete one."""
    recipe: Recipe = setting.recipe
    main = setting.probe_set.main
    # The other quantities share the evidence, so the rule is the recipe's own, but only one is
    # simulated: all of them take ten seconds, and a check is to answer at once.
    (found,) = power.of_recipe(
        decision_rule(recipe, main),
        families=[main] * num_problems,
        main_family=main,
        num_samples=recipe.probe.samples,
        num_baseline_samples=recipe.probe.num_baseline_samples,
        run_path=run_path,
        only=(QuantityId.ACCURACY,),
    ).powers
    return found.smallest.get((Tier.HALT, WITHIN[-1], CHANCES[0]))


def _needed(least_of: Least, setting: Setting, run_path: Path, num_problems: int) -> str:
    """How many problems would do."""
    # By simulation, as the recipe's own size: samples, rounds and baselines matter as well.
    for size in SIZES:
        if size > num_problems:
            least = least_of(setting, run_path, size)
            if least is not None and least <= COARSE:
                return f"{size} problems"
    return f"more than {SIZES[-1]} problems"
