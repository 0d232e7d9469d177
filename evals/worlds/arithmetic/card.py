"""A checkpoint's model card: what it can do, measured on held-out problems.

Every number with a 95 % interval (bootstrap over problems).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import strategies as st
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.pretrain_sampler import Sampler
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.monitors.estimators.ustatistics import distinct_pair_share

TASK = ArithmeticTask()
# Problems of sum2 and of each other family, and samples of each, that a card is measured on.
MAIN_PROBLEMS, FAMILY_PROBLEMS, SAMPLES = 200, 80, 8
Progress = Callable[[int, int], None]
Rows = dict[str, Any]


def write_card(checkpoint: Path, report: Progress) -> Rows:
    """Measure a checkpoint; write card.json and README.md into its folder; return the numbers."""
    sampler, held = Sampler(checkpoint), TASK.problems("heldout")
    families: Rows = {}
    main: tuple[list[Problem], list[list[str]]] = ([], [])
    # sum2 is what runs practise on: it gets more problems, and the tables of strategies.
    for i, family in enumerate(world.FAMILIES):
        report(i, len(world.FAMILIES) + 2)
        num = FAMILY_PROBLEMS
        if family == "sum2":
            num = MAIN_PROBLEMS
        chosen = [p for p in held if p.family == family][:num]
        traces = _sample(sampler, chosen, SAMPLES)
        greedy = sampler([world.PROMPTS.draft.format(question=p.question) for p in chosen], 0.0)
        right = [[_right(p, t) for t in row] for p, row in zip(chosen, traces, strict=True)]
        families[family] = {
            "num_problems": len(chosen),
            "pass@1": interval([np.mean(r) for r in right]),
            "greedy": interval([float(_right(p, t)) for p, t in zip(chosen, greedy, strict=True)]),
        }
        if family == "sum2":
            main = (chosen, traces)
    report(len(world.FAMILIES), len(world.FAMILIES) + 2)
    facts = {
        "pretraining": json.loads((checkpoint / "pretraining.json").read_text()),
        "samples_per_problem": SAMPLES,
        "families": families,
        "strategies": strategies(*main),
        "distinct_correct_pair_probability": interval(
            [distinct_correct_pairs(p, row) for p, row in zip(*main, strict=True)]
        ),
        **critic_and_revision(sampler, *main),
    }
    (checkpoint / "card.json").write_text(json.dumps(facts, indent=1) + "\n")
    (checkpoint / "README.md").write_text(render(facts))
    report(1, 1)
    return facts


def distinct_correct_pairs(problem: Problem, traces: Sequence[str]) -> float:
    """P(two of the samples are both right and use different strategies).

    Unbiased U-statistic of one problem.
    """
    right = Counter(TASK.strategy(problem, t) for t in traces if _right(problem, t))
    num_same = sum(n * (n - 1) for n in right.values())
    counts = (np.array([float(num)]) for num in (len(traces), right.total(), num_same))
    return float(distinct_pair_share(*counts)[0])


def strategies(problems: Sequence[Problem], traces: Sequence[Sequence[str]]) -> Rows:
    """Share of each strategy among the samples, and how often it is right."""
    named = [
        [(TASK.strategy(p, t), _right(p, t)) for t in row]
        for p, row in zip(problems, traces, strict=True)
    ]
    out = {}
    for name in (*st.SUM_STRATEGIES, None):
        used = [sum(s == name for s, _ in row) for row in named]
        right = [sum(s == name and r for s, r in row) for row in named]
        out[name or "none of them"] = {
            "share": interval(used, [len(row) for row in named]),
            "right": interval(right, used),
        }
    return out


def critic_and_revision(
    sampler: Sampler, problems: Sequence[Problem], traces: Sequence[Sequence[str]]
) -> Rows:
    """The critic (greedy) on the model's own samples, compared with the truth.

    Also the revisions (T = 0.7) of what it rightly rejected.
    """
    flat = [(p, t, i) for i, (p, row) in enumerate(zip(problems, traces, strict=True)) for t in row]
    asked = [world.PROMPTS.critique.format(question=p.question, draft=t) for p, t, _ in flat]
    critiques = sampler(asked, 0.0, 96)
    valid = np.array([bool(TASK.check_steps(p, t).valid) for p, t, _ in flat])
    approved = np.array([c.endswith(world.PROMPTS.approve) for c in critiques])
    located = np.array(
        [c == world.criticise(p, t) for (p, t, _), c in zip(flat, critiques, strict=True)]
    )
    cluster = np.array([i for _, _, i in flat])
    is_caught = ~valid & ~approved
    caught = [
        (problem, draft, critique)
        for (problem, draft, _), critique, chosen in zip(flat, critiques, is_caught, strict=True)
        if chosen
    ]
    return {
        "critic": _critic(valid, approved, located, cluster, len(problems)),
        "revision": _revision(sampler, caught, cluster[is_caught], len(problems)),
    }


def _critic(valid: Any, approved: Any, located: Any, cluster: Any, num_problems: int) -> Rows:
    """What the critic's verdicts are worth. All arrays hold one value per sample."""

    def share(hit: Any, among: Any) -> list[float]:
        return interval(
            np.bincount(cluster, hit & among, num_problems),
            np.bincount(cluster, among, num_problems),
        )

    approve, reject = share(approved, valid), share(~approved, ~valid)
    # A mean of two ratios has no ratio form of its own: its interval is drawn directly.
    rng = np.random.default_rng(0)
    draws = [
        _balanced(approved, valid, cluster, rng.integers(0, num_problems, num_problems))
        for _ in range(1000)
    ]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {
        "balanced_accuracy": [(approve[0] + reject[0]) / 2, low, high],
        "approves_right": approve,
        "rejects_wrong": reject,
        "locates_first_wrong_step": share(located, ~valid),
    }


def _revision(
    sampler: Sampler, caught: Sequence[tuple[Problem, str, str]], owner: Any, num_problems: int
) -> Rows:
    """How many of the rightly rejected drafts a revision repairs."""
    asked = [
        world.PROMPTS.revise.format(question=problem.question, draft=draft, critique=critique)
        for problem, draft, critique in caught
    ]
    revised = sampler(asked, 0.7)
    repaired = np.array([_right(p, t) for (p, _, _), t in zip(caught, revised, strict=True)])
    tried = np.bincount(owner, minlength=num_problems)
    return {
        "repairs": interval(np.bincount(owner, repaired, num_problems), tried),
        "num_tried": len(caught),
    }


def interval(
    top: Sequence[float] | Any, bottom: Sequence[float] | Any | None = None, draws: int = 2000
) -> list[float]:
    """[value, low, high] of sum(top) / sum(bottom) over problems.

    The interval is a percentile bootstrap over problems, seeded. Without `bottom` it is a mean.
    """
    top_P = np.asarray(top, dtype=float)
    bottom_P = np.ones_like(top_P)
    if bottom is not None:
        bottom_P = np.asarray(bottom, dtype=float)
    # The same draws for every number of a card: their differences are not of the draw.
    pick = np.random.default_rng(0).integers(0, len(top_P), (draws, len(top_P)))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = top_P[pick].sum(1) / bottom_P[pick].sum(1)
        value = float(top_P.sum() / bottom_P.sum())
    # Where no draw has anything below the line, the interval is not defined.
    if not np.isfinite(ratios).any():
        return [value, float("nan"), float("nan")]
    return [value, *map(float, np.nanpercentile(ratios, [2.5, 97.5]))]


def render(facts: Rows) -> str:
    """The card as Markdown."""
    return "\n".join([*_about(facts), *_tables(facts), ""])


def _about(facts: Rows) -> list[str]:
    """What the checkpoint is and how it was made."""
    pre = facts["pretraining"]
    config = pre["config"]
    return [
        f"# arithmetic/{config['name']}",
        "",
        (
            f"A Llama of {pre['num_parameters']:,} parameters (hidden {config['hidden_size']},"
            f" {config['num_layers']} layers, untied embeddings,"
        ),
        (
            "byte-level BPE with single digits), pretrained from scratch on the arithmetic world's"
            f" own demonstrations: {pre['tokens']:,} tokens,"
        ),
        (
            f"{pre['steps']:,} steps, seed {config['seed']}, {pre['seconds'] / 60:.0f} minutes on"
            f" one CPU core; {config['slips']:.0%} of the"
        ),
        (
            "drafts it learnt from hold a slip. Rebuild it with `ouroloop pretrain arithmetic"
            f" --which {config['name']}`."
        ),
        "It solves nothing but this world.",
        "",
    ]


def _tables(facts: Rows) -> list[str]:
    """What it can do."""
    revision = facts["revision"]
    pairs = _show(facts["distinct_correct_pair_probability"], percent=False)
    lines = [
        (
            f"Held-out problems, {facts['samples_per_problem']} samples each at T = 1; [95 %"
            " interval, bootstrap over problems]."
        ),
        "",
        "| family | problems | right at T = 1 | right, greedy |",
        "|---|---|---|---|",
    ]
    for name, family in facts["families"].items():
        shown = f"{_show(family['pass@1'])} | {_show(family['greedy'])}"
        lines.append(f"| {name} | {family['num_problems']} | {shown} |")
    lines += ["", "| strategy on sum2 | share of samples | right |", "|---|---|---|"]
    for name, strategy in facts["strategies"].items():
        lines.append(f"| {name} | {_show(strategy['share'])} | {_show(strategy['right'])} |")
    lines += [
        "",
        f"Distinct-correct-pair probability on sum2: {pairs}",
        "",
        "| critic and revision on the model's own sum2 samples | |",
        "|---|---|",
    ]
    for name, value in facts["critic"].items():
        lines.append(f"| critic: {name.replace('_', ' ')} | {_show(value)} |")
    tried = f"revisions that repair, of {revision['num_tried']} rightly rejected"
    lines.append(f"| {tried} | {_show(revision['repairs'])} |")
    return lines


def _balanced(approved: Any, valid: Any, cluster: Any, pick: Any) -> float:
    weight = np.bincount(pick, minlength=cluster.max() + 1)[cluster]
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(
            (
                weight[approved & valid].sum() / weight[valid].sum()
                + weight[~approved & ~valid].sum() / weight[~valid].sum()
            )
            / 2
        )


def _sample(sampler: Sampler, problems: Sequence[Problem], samples: int) -> list[list[str]]:
    flat = sampler(
        [world.PROMPTS.draft.format(question=p.question) for p in problems for _ in range(samples)],
        1.0,
    )
    return [flat[i * samples : (i + 1) * samples] for i in range(len(problems))]


def _right(problem: Problem, text: str) -> bool:
    return TASK.grade(problem, text).correct is True


def _show(value: Sequence[float], percent: bool = True) -> str:
    if percent:
        mean, low, high = (f"{100 * x:.1f}" for x in value)
        return f"{mean} % [{low}, {high}]"
    mean, low, high = (f"{x:.3f}" for x in value)
    return f"{mean} [{low}, {high}]"
