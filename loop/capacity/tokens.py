"""Tokens of a round by purpose: the recipe's numbers of texts times their lengths.

A length or a share that nobody measured is the recipe's own bound, so the result is one too.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroloop.loop.capacity.measured import Measured
from ouroloop.loop.config import Recipe
from ouroloop.loop.costs import Purpose
from ouroloop.loop.stages.audit import KINDS

Tokens = dict[Purpose, float]


@dataclass(frozen=True)
class Panel:
    """The probe set's problems: of the main family, of all families, and of those judged.

    num_criteria: of the frozen judge. fits_clusters: whether round 0 samples for the fit of
    response clusters.
    """

    num_main: int
    num_problems: int
    num_judged: int = 0
    num_criteria: int = 0
    fits_clusters: bool = False


def tokens_of(recipe: Recipe, panel: Panel, measured: Measured, number: int) -> Tokens:
    """Tokens of round `number` by purpose."""
    out = dict.fromkeys(Purpose, 0.0)
    if number:
        out |= _learning(recipe, measured)
    answer = _or(measured.probe_tokens, recipe.sampling.max_tokens)
    critique = _or(measured.critique_tokens, recipe.refine.max_critique_tokens)
    probe = recipe.probe
    num_samples = probe.samples
    if number in recipe.monitors.baselines:
        num_samples = probe.num_baseline_samples
    # Clusters are fitted on samples of their own, which nobody judges.
    num_fit = recipe.monitors.clusters.samples if number == 0 and panel.fits_clusters else 0
    out[Purpose.PROBE] = panel.num_problems * (num_samples + num_fit + 1) * answer
    if recipe.refine.critique and recipe.asks_verdict:
        out[Purpose.CRITIC] = min(probe.critiques, panel.num_main) * critique
    if recipe.filters.critic:
        out[Purpose.AUDIT] = probe.audit_items * len(KINDS) * critique
    if recipe.judge is not None:
        # In a baseline round as many times more as the probe has.
        judged = recipe.judge.samples * num_samples / probe.samples
        verdicts = panel.num_judged * judged * panel.num_criteria
        out[Purpose.JUDGE] = verdicts * _or(measured.judge_tokens, recipe.judge.max_tokens)
    texts = probe.texts + probe.traces * panel.num_problems
    out[Purpose.SCORED] = texts * answer
    return out


def trained_tokens(recipe: Recipe, measured: Measured) -> float:
    """Tokens that a round's training reads, prompts included, every epoch counted."""
    kept = num_drafts(recipe) * _or(measured.kept_share, 1.0)
    length = _or(measured.example_tokens, recipe.engine.max_model_len)
    epochs = float(recipe.at(1).trainer_settings.get("num_train_epochs", 3))
    return kept * length * epochs


def num_drafts(recipe: Recipe) -> int:
    """Drafts of a round, by the student and every teacher."""
    sampling = recipe.sampling
    num_sources = int(sampling.student) + len(recipe.teachers)
    return sampling.problems_per_round * sampling.samples_per_problem * num_sources


def _learning(recipe: Recipe, measured: Measured) -> Tokens:
    drafts, refine = num_drafts(recipe), recipe.refine
    # What every draft would get at most: a critique before each revision, and of the last text
    # where a filter asks for it.
    revisions = float(refine.revisions)
    critiques = 0.0
    if refine.critique:
        critiques = max(1.0, revisions + recipe.filters.critic)
    revisions = _or(measured.revisions_per_draft, revisions)
    critiques = _or(measured.critiques_per_draft, critiques)
    longest = recipe.sampling.max_tokens
    critique = _or(measured.critique_tokens, refine.max_critique_tokens)
    return {
        Purpose.DRAFTS: drafts * _or(measured.draft_tokens, longest),
        Purpose.CRITIQUES: drafts * critiques * critique,
        Purpose.REVISIONS: drafts * revisions * _or(measured.revision_tokens, longest),
    }


def _or(known: float | None, bound: float) -> float:
    return bound if known is None else known
