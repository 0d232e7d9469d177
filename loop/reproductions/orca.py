"""Explanation tuning (Orca, 2306.02707).

A teacher answers under system prompts, a student learns from each signal and from their mix.

The small teacher knows no system prompts, so it is taught them first (`teach`): its own trace
without one, the same when it is told to explain, the calculations alone step by step, the final
answer alone.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import strategies, world
from ouroloop.evals.worlds.arithmetic.task import FAMILY_MIX, ArithmeticTask
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.making import Lesson, fine_tuned
from ouroloop.loop.experiments.study import SMALL_ENGINE, Results, Study, last_checkpoint
from ouroloop.loop.experiments.tables import Columns, Rows, last, times
from ouroloop.loop.objectives import training
from ouroloop.loop.records import Request, Sampling
from ouroloop.loop.reproductions.base import Reproduction, has
from ouroloop.loop.stages.prompts import render
from ouroloop.loop.store import read_json, read_rows, write_json
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.estimators.stats import Estimate, mean

NONE, EXPLAIN, STEPS, ANSWER = "", "Explain.", "Step by step.", "Answer only."
FORMS = {NONE: "explanation", EXPLAIN: "explanation", STEPS: "steps", ANSWER: "answer"}
"""System prompt -> the form of answer that it asks for.

The first is Orca's empty system message.
"""
NAMES = {NONE: "none", EXPLAIN: "explain", STEPS: "step_by_step", ANSWER: "answer_only"}
NEEDED = tuple(f for f in world.FAMILIES if f not in world.SKILLS)
"""The families whose answers need an explanation to be found by a small model."""

TEACHING: dict[str, Any] = {
    "learning_rate": 5.0e-4,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 32,
}
NUM_TAUGHT = 8000
NUM_ASKED = 30
"""Held-out problems of each family in `NEEDED` that every student is asked under each system prompt."""
GREEDY = Sampling(temperature=0.0, max_tokens=80)

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "teachers": ["$teacher"],
    "rounds": 1,
    "engine": SMALL_ENGINE,
    "task": {"kind": "arithmetic", "families": list(world.FAMILIES)},
    "sampling": {
        "student": False,
        "problems_per_round": 1200,
        "samples_per_problem": 4,
        "temperatures": [0.7],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": None},
    "dataset": {"size": 2400},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 100,
        "family_problems": 60,
        "samples": 2,
        "baseline_samples": 2,
        "pass_at": 2,
        "majority": 2,
        "critiques": 0,
        "texts": 8,
        "audit_items": 0,
    },
    "monitors": {"guard": False},
    "tracking": {"mlflow": False},
}

ARMS: dict[str, dict[str, Any]] = {
    "plain": {"dataset": {"target": "answer"}},
    "steps": {"sampling": {"systems": [STEPS]}, "dataset": {"erase_systems": True}},
    "explanation": {"sampling": {"systems": [EXPLAIN]}, "dataset": {"erase_systems": True}},
    "mix": {"sampling": {"systems": list(FORMS)}},
    "mix_erased": {"sampling": {"systems": list(FORMS)}, "dataset": {"erase_systems": True}},
    "mix_unfiltered": {"sampling": {"systems": list(FORMS)}, "filters": {"gold": False}},
}
"""Arm -> what it changes in `BASE`.

Every student is asked without a system prompt: those of one signal are taught without one, and the
mix holds

the empty one, as Orca's does. `mix_erased` learns what `mix` does and never sees a system prompt
(Orca 2, Mitra et al. 2311.11045); `mix_unfiltered` learns from wrong answers too, as Orca did:
under `Answer only.` the teacher is mostly wrong, and a filter leaves little of that.
"""


def demonstrate(item: Problem, system: str, rng: random.Random) -> str:
    """A right answer in the form that a system prompt asks for.

    Skills have no steps: their answer is their trace.
    """
    if item.family in world.SKILLS or FORMS[system] == "answer":
        return f"answer {item.answer}"
    trace = world.demonstrate(item, world.pick_strategy(item.family, item.metadata["a"], rng))
    return trace.split("\n", 1)[1] if FORMS[system] == "steps" else trace


def form_of(text: str) -> str:
    """`explanation` (says first what it has read), `steps` (calculations alone), `answer`.

    Or `other`.
    """
    if strategies.parse(text) is not None:
        return "explanation"
    lines = text.strip().split("\n")
    if not lines[-1].startswith("answer "):
        return "other"
    return (
        "answer"
        if len(lines) == 1
        else "steps"
        if all("=" in line for line in lines[:-1])
        else "other"
    )


def teach(folder: Path) -> Path:
    """The teacher that follows system prompts, in `folder`/checkpoint.

    Made when it is not there yet.
    """
    return fine_tuned(folder, "arithmetic/teacher", TEACHING, lessons(), seed=29)


def lessons() -> list[Lesson]:
    """What the teacher is taught: answers under each system prompt in equal shares.

    Of numbers that it was pretrained on.
    """
    rng, out = random.Random("orca"), list[Lesson]()
    for _ in range(NUM_TAUGHT):
        system, family = (
            rng.choice(list(FORMS)),
            rng.choices(list(FAMILY_MIX), list(FAMILY_MIX.values()))[0],
        )
        item = world.draw(family, "pretrain", rng)
        out.append(
            (
                item.id,
                render(world.PROMPTS, world.PROMPTS.draft, system, question=item.question),
                demonstrate(item, system, rng),
            )
        )
    return out


async def ask_under_each(path: Path, engine: Engine) -> None:
    """lines.json of a run: under each system prompt the share of greedy answers to `NEEDED` that are right, and that have the form asked for."""
    out = path / "lines.json"
    if out.exists():
        return
    task, checkpoint = ArithmeticTask(), last_checkpoint(path)
    await engine.load(checkpoint, training.weight_sync_of(checkpoint, path))
    items = [
        p
        for family in NEEDED
        for p in [p for p in task.problems("heldout") if p.family == family][:NUM_ASKED]
    ]
    found = {}
    for system, form in FORMS.items():
        asked = [
            Request(
                f"lines/{form}/{p.id}",
                render(world.PROMPTS, world.PROMPTS.draft, system, question=p.question),
                GREEDY,
                seed=0,
            )
            for p in items
        ]
        texts = [
            answer.text
            for answer in await asyncio.gather(*(engine.complete(request) for request in asked))
        ]
        right = [task.grade(p, text).correct for p, text in zip(items, texts, strict=True)]
        found[system] = {
            "right": sum(map(bool, right)) / len(items),
            "form": sum(form_of(text) == form for text in texts) / len(items),
        }
    write_json(out, found)


def measure(path: Path) -> list[dict[str, Any]]:
    """The loop's rows, and: greedy accuracy by family, what was learnt by form.

    And lines.json. NaN before training.
    """
    run, rows = read_run(path), rounds.table(path)
    for row, found in zip(rows, run.rounds, strict=True):
        for family in world.FAMILIES:
            row |= {
                f"{family}_{key}": found.score(metric, family)[0]
                for key, metric in (("pass_1", "pass@1"), ("greedy", "greedy"))
            }
        examples = read_rows(found.path / "examples.parquet") if found.number else []
        right = (
            {v["sample_id"]: v["correct"] for v in read_rows(found.path / "verdicts.parquet")}
            if found.number
            else {}
        )
        row["learnt"] = float(len(examples))
        row["learnt_right"] = (
            sum(right[e["sample_id"]] for e in examples) / len(examples) if examples else math.nan
        )
        learnt = [form_of(e["text"]) for e in examples if e["problem_id"].split("-")[0] in NEEDED]
        row |= {
            f"learnt_{form}": learnt.count(form) / len(learnt) if learnt else math.nan
            for form in dict.fromkeys(FORMS.values())
        }
        lines = read_json(path / "lines.json") if found.number else {}
        row |= {
            f"{name}_{key}": lines.get(system, {}).get(key, math.nan)
            for system, name in NAMES.items()
            for key in ("right", "form")
        }
    return rows


def over(families: Sequence[str], key: str) -> Callable[[Rows], float]:
    """The mean over families of a score in the last round.

    Each family counts the same, as each task of BBH does.
    """
    return lambda run: sum(float(run[-1][f"{family}_{key}"]) for family in families) / len(families)


STUDY = Study(
    "orca",
    BASE,
    ARMS,
    made={"teacher": teach},
    measure=measure,
    extra=ask_under_each,
    quick={
        "sampling": {"problems_per_round": 500},
        "dataset": {"size": 1000},
        "probe": {"problems": 60, "family_problems": 30},
    },
    quick_arms=("plain", "mix"),
)

COLUMNS: Columns = {
    "need steps, greedy": (over(NEEDED, "greedy"), "%"),
    "need steps, pass@1": (over(NEEDED, "pass_1"), "%"),
    **{family: (last(f"{family}_greedy"), "%") for family in NEEDED},
    "skills, greedy": (over(world.SKILLS, "greedy"), "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """The published margin with and without a filter, what the mix adds to the base.

    And that it learnt what each system prompt asks for.
    """
    out, greedy, sampled = [], over(NEEDED, "greedy"), over(NEEDED, "pass_1")
    if has(results, "mix", "plain"):
        asks = (
            "the mix is right more than twice as often as plain pairs where steps are needed,"
            " greedy (times; interval above 2)"
        )
        out.append(Goal.above(asks, times(results, "mix", "plain", greedy), 2.0))
        out.append(Goal.above("the same at T = 1", times(results, "mix", "plain", sampled), 2.0))
    if has(results, "mix_unfiltered", "plain"):
        asks = "the same, greedy, of the mix that learns from wrong answers too, as published"
        out.append(Goal.above(asks, times(results, "mix_unfiltered", "plain", greedy), 2.0))
    if has(results, "mix"):
        asks = (
            "the mix is right more often than the base before training where steps are needed, T ="
            " 1 (interval above 0)"
        )
        out.append(
            Goal.above(
                asks,
                mean([sampled(run) - sampled(run[:1]) for run in results["mix"].values()]),
                unit="%",
            )
        )
    if has(results, "mix_unfiltered"):
        asks = (
            "that mix answers in the form that each system prompt asks for (mean of the four, at"
            " least 90 %)"
        )
        out.append(
            Goal.at_least(
                asks, mean([followed(run) for run in results["mix_unfiltered"].values()]), 0.9, "%"
            )
        )
    return out


def followed(run: Rows) -> float:
    """Share of answers in the form that was asked for, mean over the system prompts."""
    return sum(float(run[-1][f"{name}_form"]) for name in NAMES.values()) / len(NAMES)


def notes(results: Results) -> Sequence[str]:
    """What the base could before, what each arm learnt.

    And how each answers under every system prompt.
    """
    runs = [run for arm in results.values() for run in arm.values()]
    greedy, sampled = (
        mean([over(NEEDED, key)(run[:1]) for run in runs]) for key in ("greedy", "pass_1")
    )
    heads = [f"`{system or '(none)'}`" for system in FORMS]
    lines = [
        (
            f"Before training, where steps are needed: {100 * greedy.value:.1f} % greedy,"
            f" {100 * sampled.value:.1f} % pass@1. Below: greedy answers to {NUM_ASKED} problems of"
            " each of these families under each system prompt, right and in the form that it asks"
            " for."
        ),
        "",
        f"| arm | learnt: explanations, steps, answers; right, of how many | {' | '.join(heads)} |",
        "|---" * (2 + len(heads)) + "|",
    ]
    for arm, found in results.items():

        def told(key: str, scale: float = 100.0, found: Mapping[int, Rows] = found) -> str:
            return f"{scale * mean([float(run[-1][key]) for run in found.values()]).value:.0f}"

        learnt = ", ".join(told(f"learnt_{form}") for form in dict.fromkeys(FORMS.values()))
        cells = [f"{told(f'{name}_right')} %, {told(f'{name}_form')} %" for name in NAMES.values()]
        lines.append(
            f"| {arm} | {learnt} %; {told('learnt_right')} % of {told('learnt', 1.0)} |"
            f" {' | '.join(cells)} |"
        )
    return lines


def draw(results: Results, figure: Any) -> None:
    """Greedy accuracy by arm where steps are needed and where not.

    And by family for plain pairs and the mix.
    """
    left, right = figure.subplots(1, 2)
    for i, (kind, families) in enumerate({"need steps": NEEDED, "skills": world.SKILLS}.items()):
        score = over(families, "greedy")
        _bars(
            left,
            [mean([score(run) for run in runs.values()]) for runs in results.values()],
            i,
            kind,
            f"C{i}",
        )
        before = mean([score(run[:1]) for runs in results.values() for run in runs.values()]).value
        left.axhline(before, color=f"C{i}", linewidth=1, linestyle="--", label=f"{kind}, before")
    left.set_xticks(range(len(results)), [arm.replace("_", "\n") for arm in results], fontsize=7)
    for i, arm in enumerate(arm for arm in ("plain", "mix") if arm in results):
        found = [
            mean([float(run[-1][f"{family}_greedy"]) for run in results[arm].values()])
            for family in world.FAMILIES
        ]
        _bars(right, found, i, arm, f"C{i + 2}")
    right.set_xticks(range(len(world.FAMILIES)), world.FAMILIES, fontsize=7, rotation=30)
    for axes, title in ((left, "right, greedy, by arm"), (right, "right, greedy, by family")):
        axes.set_title(title, fontsize=9)
        axes.set_ylim(0, 1.3)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.tick_params(axis="y", labelsize=8)
        axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper center")


def _bars(axes: Any, found: Sequence[Estimate], index: int, label: str, color: str) -> None:
    """One of two groups of bars, with intervals where there are any."""
    at = [i + 0.4 * (index - 0.5) for i in range(len(found))]
    spread = [[abs(e.value - e[end]) if e[end] == e[end] else 0.0 for e in found] for end in (1, 2)]
    axes.bar(
        at,
        [e.value for e in found],
        0.4,
        yerr=spread,
        color=color,
        label=label,
        error_kw={"linewidth": 1},
    )


REPRODUCTION = Reproduction(
    study=STUDY,
    title="Explanation tuning: signals of a teacher under system prompts",
    paper="Mukherjee et al. 2023 (Orca), arXiv 2306.02707",
    claim=(
        "A student that learns explanations under varied system prompts reasons far better than one"
        " that learns plain question-answer pairs."
    ),
    published=(
        "| zero-shot (Orca-13B against Vicuna-13B, from the abstract) | relative gain |",
        "|---|---|",
        "| BigBench-Hard | more than 100 % |",
        "| AGIEval | 42 % |",
    ),
    differs=(
        "the base here explains by itself, so plain pairs also unlearn what it could, and the ratio"
        " says more about them than about the mix: its gain over the base stands beside it. The"
        " teacher has first been taught its system prompts. Only right answers are kept (but in"
        " `mix_unfiltered`), which leaves little of `Answer only.`: there the teacher is mostly"
        " wrong. Plain pairs are the final answers of the same teacher's right explanations, where"
        " Vicuna learnt from conversations. As in the paper the mix holds an empty system prompt,"
        " and every student is asked without one."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
    notes=notes,
)
