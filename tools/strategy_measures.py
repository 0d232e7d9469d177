"""What `tools/strategy_quality.py` measures with, and the tests too.

Traces of the arithmetic world, whose strategies are known; hand-labelled pairs of solutions of real
models (`tests/monitors/strategy_pairs.json`; the solutions are read from the folder that
OUROLOOP_DATA names).
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import strategies as st
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import FAMILY_MIX, ArithmeticTask
from ouroloop.monitors.strategies.templates import Templates

ROOT = Path(__file__).resolve().parents[1]
SOLUTIONS = (
    Path(os.environ.get("OUROLOOP_DATA", ROOT / "../shared/data"))
    / "gsm8k"
    / "model_solutions_first_660.jsonl"
)
CHECKPOINT = ROOT / "evals/worlds/arithmetic/base"
PAIRS = ROOT / "tests/monitors/strategy_pairs.json"
MIXES = {
    "sum2": {"sum2": 1.0},
    "all families": {family: FAMILY_MIX[family] for family in st.STRATEGIES},
}
TASK = ArithmeticTask()
Name = Callable[[str, str], str | None]


@dataclass(frozen=True)
class Trace:
    """A trace of the world with its true strategy.

    `program` is the strategy: the function that wrote the trace, "column", "count_up", ...
    """

    problem: Problem
    text: str
    program: str


def trace_of(problem: Problem, text: str) -> Trace | None:
    """A trace with the world's own reading of the text; None when it follows no strategy."""
    strategy = TASK.strategy(problem, text)
    if not strategy:
        return None
    # By its function: one name, such as "jump", is a different program in another family.
    return Trace(problem, text, st.STRATEGIES[problem.family][strategy].__name__)


def draw(
    mix: Mapping[str, float], num_traces: int, seed: int, slips: float, split: str = "heldout"
) -> list[Trace]:
    """Demonstrations, `slips` of them with one slip, by the world's own weights of strategies."""
    rng = random.Random(f"{seed}/{split}/{slips}")
    found: list[Trace] = []
    while len(found) < num_traces:
        problem = world.draw(rng.choices(list(mix), list(mix.values()))[0], split, rng)
        strategy = world.pick_strategy(problem.family, problem.metadata["a"], rng)
        if rng.random() < slips:
            text = world.slip(problem, strategy, rng)
        else:
            text = world.demonstrate(problem, strategy)
        trace = trace_of(problem, text)
        found += [trace] if trace else []
    return found


def sample(
    checkpoint: Path, families: Iterable[str], num_problems: int, num_samples: int, seed: int
) -> list[Trace]:
    """What the small model writes at temperature 1 on held-out problems.

    Texts that follow no strategy are left out.
    """
    # Heavy and needed here alone: the tests import this file.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(checkpoint),
        AutoModelForCausalLM.from_pretrained(checkpoint).eval(),
    )
    found = []
    for family in families:
        problems = random.Random(f"{seed}/{family}").sample(
            [p for p in TASK.problems("heldout") if p.family == family], num_problems
        )
        for problem in problems:
            ids = tokenizer(
                world.PROMPTS.draft.format(question=problem.question),
                return_tensors="pt",
                add_special_tokens=False,
            )["input_ids"]
            mask = torch.ones_like(ids)
            rows = model.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=120,
                num_return_sequences=num_samples,
            )
            found += [
                trace_of(problem, tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True))
                for row in rows
            ]
    return [trace for trace in found if trace]


def information(traces: Sequence[Trace], name: Name) -> float:
    """Adjusted mutual information of names and true strategies.

    It is 1 for the same partition, and 0 in the mean for a random one.

    Source: Vinh, Epps & Bailey 2010, arithmetic mean (scikit-learn's default). No name counts as a
    name.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    named = [name(trace.problem.question, trace.text) or "none" for trace in traces]
    return float(adjusted_mutual_info_score([trace.program for trace in traces], named))


def within_problems(traces: Sequence[Trace], name: Name) -> tuple[float, float]:
    """How well pairs of traces on one problem are named.

    Returns:
        The share of the truly same pairs that get the same name, and of the truly different pairs
        that get different names.
    """
    # Across problems a name that follows the problem looks good by chance of the draw. Within a
    # problem only the strategy differs.
    named = [
        (trace.problem.id, trace.program, name(trace.problem.question, trace.text))
        for trace in traces
    ]
    same, other = [], []
    by_problem: dict[str, list[tuple[str, str | None]]] = {}
    for problem, program, label in named:
        by_problem.setdefault(problem, []).append((program, label))
    for rows in by_problem.values():
        for (program, label), (program2, label2) in combinations(rows, 2):
            (same if program == program2 else other).append(
                (label == label2) == (program == program2)
            )
    return float(np.mean(same)), float(np.mean(other))


def fitted(
    mix: Mapping[str, float],
    seed: int,
    dress: Callable[[Sequence[Trace]], list[Trace]] = list,
    num_traces: int = 600,
) -> Templates:
    """The free-text canonicaliser, fitted on traces of training problems.

    Three in ten of them have a slip. No pair of numbers that it is fitted on is measured.
    """
    traces = dress(draw(mix, num_traces, seed, 0.3, "train"))
    return Templates().fit(
        [trace.problem.question for trace in traces], [trace.text for trace in traces]
    )


def pairs(sample_number: int) -> list[dict[str, Any]]:
    """The hand-labelled pairs of one of the two samples, in order."""
    return [
        pair
        for pair in json.loads(PAIRS.read_text(encoding="utf-8"))
        if pair["sample"] == sample_number
    ]


def solutions() -> list[dict[str, Any]]:
    """The real models' solutions, one row per question."""
    return [json.loads(line) for line in SOLUTIONS.read_text(encoding="utf-8").splitlines()]


def judge(
    name: Name, pair: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], annotated: bool = True
) -> bool:
    """Whether the two solutions get the same name.

    `annotated`: with the data's <<...>> notes, as the models wrote them.
    """
    row = rows[pair["problem"]]
    texts = [row[model]["solution"] for model in pair["models"]]
    if not annotated:
        # The notes give every calculation away; other models' solutions have none.
        texts = [re.sub(r"<<[^<>]*>>", "", text) for text in texts]
    first, second = (name(row["question"], text) for text in texts)
    return first is not None and first == second


def fitted_on_solutions(rows: Sequence[Mapping[str, Any]]) -> Templates:
    """The free-text canonicaliser, fitted on all solutions of questions that no pair is about."""
    # Solutions of a question that is judged would make its names too good.
    asked = {pair["problem"] for number in (1, 2) for pair in pairs(number)}
    models = pairs(1)[0]["models"]
    texts = [
        (row["question"], row[model]["solution"])
        for i, row in enumerate(rows)
        if i not in asked
        for model in models
    ]
    return Templates().fit([question for question, _ in texts], [text for _, text in texts])
