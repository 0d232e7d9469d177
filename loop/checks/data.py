"""The data compared with the recipe: supply, answers, what the filters need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ouroloop.evals.registry import GRADERS
from ouroloop.evals.tasks import Capability, Grade
from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.config import StageConfig
from ouroloop.loop.records import Problem
from ouroloop.loop.round import Round
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.judging import graded
from ouroloop.loop.stages.train import table_of
from ouroloop.monitors.fence import Unreadable

HARD_YIELD = 0.25
"""A round that must keep more than this share of its samples often trains nothing."""
NUM_EXAMPLES = 3
NUM_TRIED = 20
"""Problems that a grader of one's own is tried on: it may be slow."""


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """The findings on problems, answers, supply and filters."""
    return [
        problems(setting),
        answers(setting),
        supply(setting),
        *greedy(setting),
        filters(setting),
        *schedule(setting),
    ]


def problems(setting: Setting) -> Finding:
    """How many there are, and what comes with them."""
    there = setting.problems
    num_main = sum(p.family == setting.probe_set.main for p in setting.probe_set.problems)
    if num_main < 2:
        what = (
            f"{len(there):,} to train on, but {num_main} in the probe set: nothing can be compared."
            " Hold out at least 2, better 100 (task.heldout_path, or more problems)."
        )
        return Finding(Level.ERROR, "problems", what)
    solved = sum(problem.solution is not None for problem in there)
    what = (
        f"{len(there):,} to train on ({solved:,} with a solution),"
        f" {len(setting.probe_set.problems):,} in the probe set,"
        f" {len(setting.demonstrations):,} demonstrations in reserve"
    )
    return Finding(Level.OK, "problems", what)


def answers(setting: Setting) -> Finding:
    """Whether the grader accepts the gold answers themselves."""
    # Training and probe: a grader that fits one file may not fit the held-out one.
    everything = [*setting.problems, *setting.probe_set.problems]
    with_gold = [problem for problem in everything if problem.answer is not None]
    # A function of one's own judges texts by what only it knows: it is tried, not examined.
    grader = getattr(setting.recipe.task, "grader", None)
    is_own = grader is not None and grader.use not in GRADERS
    if is_own and Capability.ANSWERS not in setting.task.capabilities:
        return _tried(setting, (with_gold or everything)[:NUM_TRIED])
    if not with_gold or Capability.ANSWERS not in setting.task.capabilities:
        return Finding(Level.OK, "answers", "no gold answers are graded")
    refused = [problem for problem in with_gold if not _accepts(setting, problem)]
    if not refused:
        what = f"the grader accepts all {len(with_gold):,} gold answers as answers"
        return Finding(Level.OK, "answers", what)
    shown = ", ".join(repr(str(problem.answer)[:40]) for problem in refused[:NUM_EXAMPLES])
    # Some refused answers cost samples; all of them refused leave nothing to train on.
    level = Level.WARNING
    if len(refused) == len(with_gold) and setting.recipe.filters.gold:
        level = Level.ERROR
    what = (
        f"the grader does not accept {len(refused):,} of {len(with_gold):,} gold answers, given as"
        f" they are ({shown}): nothing can be right there. Name another task.grader, or the column"
        " of the bare answers."
    )
    return Finding(level, "answers", what)


def _accepts(setting: Setting, problem: Problem) -> bool:
    """Whether the gold answer, written as the prompts ask for it, or the solution is right."""
    return any(
        not isinstance(grade, Unreadable) and grade.correct for grade in _grades(setting, problem)
    )


def _grades(setting: Setting, problem: Problem) -> Iterator[Grade | Unreadable]:
    """What the grader says of the gold answer as a text, and of the solution."""
    # Behind the fence, as in a run: a grader may choke on somebody's gold answer too. The solution
    # counts as well, because a grader of one's own may read no answer that stands alone.
    text = setting.prompts.answer.replace("{answer}", problem.answer or "")
    for written in (text, problem.solution):
        if written is not None:
            yield graded(problem, written, setting.task)


def _tried(setting: Setting, problems: Sequence[Problem]) -> Finding:
    """Whether a grader of one's own says anything that can be used."""
    said = [grade for problem in problems for grade in _grades(setting, problem)]
    failed = [grade for grade in said if isinstance(grade, Unreadable)]
    if not failed:
        right = sum(not isinstance(grade, Unreadable) and bool(grade.correct) for grade in said)
        what = f"your grader was tried on {len(said)} texts and calls {right} of them right"
        return Finding(Level.OK, "answers", what)
    # A filter on such grades keeps nothing.
    level = Level.WARNING
    if len(failed) == len(said) and setting.recipe.filters.gold:
        level = Level.ERROR
    what = (
        f"your grader failed on {len(failed)} of the {len(said)} texts that it was tried on"
        f" ({failed[0].error}: {failed[0].message}): such texts count as not scored. Repair it."
    )
    return Finding(level, "answers", what)


def supply(setting: Setting) -> Finding:
    """The samples of a round against those that a training takes."""
    recipe = setting.recipe
    num_problems = min(recipe.sampling.problems_per_round, len(setting.problems))
    sources = len(setting.teachers) + recipe.sampling.student
    per_problem = recipe.sampling.samples_per_problem * sources
    sampled = num_problems * per_problem
    # A cap per problem binds before any filter does.
    kept_at_most = num_problems * min(per_problem, recipe.filters.per_problem or per_problem)
    needed = recipe.dataset.min_kept
    size = f"{num_problems:,} problems x {per_problem} samples = {sampled:,} a round"
    if not needed:
        return Finding(Level.OK, "supply", f"{size}; a round trains whatever is kept")
    if needed > kept_at_most:
        what = (
            f"{size}, of which at most {kept_at_most:,} can be kept, but dataset.min_examples is"
            f" {needed}: no round could train. Set it to {max(1, kept_at_most // 4)}, or sample"
            " more."
        )
        return Finding(Level.ERROR, "supply", what)
    what = f"{size}; a round trains if {needed} ({needed / sampled:.0%}) are kept"
    if needed > HARD_YIELD * kept_at_most:
        what += (
            f", of {kept_at_most:,} at most: a weak model's rounds may train nothing. Lower"
            " dataset.min_examples, or raise sampling.samples_per_problem."
        )
        return Finding(Level.WARNING, "supply", what)
    return Finding(Level.OK, "supply", what)


def greedy(setting: Setting) -> list[Finding]:
    """A warning where samples of a problem are one text, for nothing is drawn at temperature 0."""
    sampling, refine = setting.recipe.sampling, setting.recipe.refine
    every_draft_is_revised = refine.revise_when == "always" and not refine.families
    if refine.revisions and refine.revise_temperature > 0 and every_draft_is_revised:
        return []
    # As drafts are asked for: temperatures and system prompts are both dealt out in turn.
    num_systems = max(len(sampling.systems), 1)
    num = sampling.samples_per_problem
    temperatures = [sampling.temperatures[i % len(sampling.temperatures)] for i in range(num)]
    asked = [i % num_systems for i, temperature in enumerate(temperatures) if temperature == 0]
    different = num - len(asked) + len(set(asked))
    if different == num:
        return []
    num_problems = min(sampling.problems_per_round, len(setting.problems))
    what = (
        f"{len(asked)} of {num} samples of a problem are drawn at temperature 0, where the same"
        f" prompt gives the same text: at most {num_problems:,} problems x {different} ="
        f" {num_problems * different:,} different drafts a round from each source. Set"
        f" sampling.samples_per_problem to {different}, or sampling.temperatures above 0, such as"
        " [0.7, 1.0]."
    )
    return [Finding(Level.WARNING, "sampling", what)]


def schedule(setting: Setting) -> list[Finding]:
    """Which rounds train with what, where the recipe has stages or preference pairs."""
    recipe = setting.recipe
    is_of_pairs = [table_of(recipe, number) is Round.pairs for number in recipe.first_rounds]
    if not recipe.stages and not any(is_of_pairs):
        return []
    parts = []
    stages = recipe.stages or (StageConfig(rounds=recipe.rounds, objective=recipe.objective),)
    for first, stage, of_pairs in zip(recipe.first_rounds, stages, is_of_pairs, strict=True):
        last = first + stage.rounds - 1
        rounds = f"round {first}" if first == last else f"rounds {first} to {last}"
        learnt = f" on pairs ({', '.join(recipe.pairs.sources)})" if of_pairs else ""
        parts.append(f"{rounds}: {stage.objective.use}{learnt}")
    return [Finding(Level.OK, "stages", "; ".join(parts))]


def _without_answers(setting: Setting) -> list[str]:
    """Families of problems none of which has a gold answer, where others have."""
    families = {problem.family for problem in setting.problems}
    answered = {problem.family for problem in setting.problems if problem.answer is not None}
    return sorted(families - answered) if answered else []


def filters(setting: Setting) -> Finding:
    """What the chosen filters need of the data and of the sampling."""
    recipe = setting.recipe
    chosen = recipe.filters
    unanswered = sum(problem.answer is None for problem in setting.problems)
    if chosen.gold and unanswered:
        what = (
            f"gold: {unanswered:,} of {len(setting.problems):,} problems have no gold answer; none"
            " of their samples is kept"
        )
        return Finding(Level.WARNING, "filters", what)
    # Two samples either agree or tie: a vote share of one half is then always reached.
    if chosen.agreement is not None and recipe.sampling.samples_per_problem < 3:
        what = (
            f"agreement: {recipe.sampling.samples_per_problem} samples of a problem are no vote."
            " Set sampling.samples_per_problem to 4 or more."
        )
        return Finding(Level.WARNING, "filters", what)
    silent = _without_answers(setting)
    if chosen.agreement is not None and silent:
        what = (
            f"agreement: the family {silent[0]} has no gold answers; where its texts state no"
            " answer, none of its samples is kept. Leave it out of task.families, or leave"
            " filters.agreement out."
        )
        return Finding(Level.WARNING, "filters", what)
    on = {
        "gold answer": chosen.gold,
        "steps": chosen.steps,
        "critic": chosen.critic,
        "agreement": chosen.agreement is not None,
        "format": chosen.format,
        "your own": bool(chosen.extra),
    }
    # `format` only asks for an answer; it does not ask whether the answer is right.
    names = [name for name, is_on in on.items() if is_on]
    if not set(names) - {"format"}:
        return _none_judges(setting, can_agree=not silent)
    return Finding(Level.OK, "filters", f"{', '.join(names)}; the data has what they need")


def _none_judges(setting: Setting, can_agree: bool) -> Finding:
    """Whatever is written is learnt, which may be meant."""
    refine = setting.recipe.refine
    if refine.revisions and refine.revise_when == "always" and not refine.families:
        what = "none judges: the last revision of every draft is learnt, as published (2212.08073)"
        return Finding(Level.OK, "filters", what)
    remedy = "`filters: {critic: true}`"
    if refine.families:
        remedy += " without refine.families"
    # Texts without answers cannot agree.
    if Capability.ANSWERS in setting.task.capabilities and can_agree:
        remedy += " or `agreement: 0.5`"
    what = (
        "none judges what is right: whatever the model writes is learnt. Set"
        f" {remedy}, unless that is meant."
    )
    return Finding(Level.WARNING, "filters", what)
