"""How well the canonicalisers name strategies, measured.

`python -m tools.strategy_quality` writes docs/strategy-quality.md.

On the arithmetic world, whose strategies are known, and on hand-labelled pairs of solutions of real
models (`tests/monitors/strategy_pairs.json`; the solutions are read from the folder that
OUROLOOP_DATA names). The tests import its measures.
"""

from __future__ import annotations

import json
import os
import random
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import strategies as st
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import FAMILY_MIX, ArithmeticTask
from ouroloop.monitors.strategies.strategy import CANONICALISERS, Canonicaliser
from ouroloop.monitors.strategies.templates import Templates
from tools.strategy_words import in_words

ROOT = Path(__file__).resolve().parents[1]
SOLUTIONS = (
    Path(os.environ.get("OUROLOOP_DATA", ROOT / "../shared/data"))
    / "gsm8k"
    / "model_solutions_first_660.jsonl"
)
PAIRS = ROOT / "tests/monitors/strategy_pairs.json"
CHECKPOINT = ROOT / "evals/worlds/arithmetic/base"
REPORT = ROOT / "docs/strategy-quality.md"
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
    # Heavy and needed here alone: the tests import this file for its measures.
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


def with_interval(values: Sequence[float]) -> str:
    """Mean over seeds with its 95 % t-interval, and the least."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:.3f} ± {half:.3f} (least {min(values):.3f})"


def share(right: int, total: int) -> str:
    """A share with its Clopper-Pearson interval."""
    low, high = stats.binomtest(right, total).proportion_ci(0.95, "exact")
    return f"{right}/{total} = {right / total:.0%} [{low:.0%}, {high:.0%}]"


def world_tables(num_seeds: int, num_traces: int) -> list[str]:
    """AMI per canonicaliser and kind of trace, and the free-text one as written and in words."""
    lines = []
    for title, mix in MIXES.items():
        lines += [
            f"### {title}",
            "",
            "| canonicaliser | demonstrations | half with a slip | all with a slip |",
            "|---|---|---|---|",
        ]
        draws = [
            [draw(mix, num_traces, seed, slips) for seed in range(num_seeds)]
            for slips in (0.0, 0.5, 1.0)
        ]
        for key, canonicaliser in CANONICALISERS.items():
            cells = [
                with_interval([information(traces, canonicaliser) for traces in kind])
                for kind in draws
            ]
            lines.append(f"| {key} | " + " | ".join(cells) + " |")
        for label, dress in (
            ("templates", list),
            ("templates, steps in words", in_words),
            ("plan, steps in words", in_words),
        ):
            learnt: list[Name] = [
                fitted(mix, seed, dress) if "templates" in label else CANONICALISERS["plan"]
                for seed in range(num_seeds)
            ]
            cells = [
                with_interval(
                    [information(dress(t), name) for t, name in zip(kind, learnt, strict=True)]
                )
                for kind in draws
            ]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def model_table(num_seeds: int, num_problems: int, num_samples: int) -> list[str]:
    """The same on what the small model writes."""
    if not (CHECKPOINT / "model.safetensors").exists():
        return ["Not measured: the checkpoint folder is absent.", ""]
    lines = []
    for title, mix in MIXES.items():
        draws = [
            sample(CHECKPOINT, mix, num_problems, num_samples, seed) for seed in range(num_seeds)
        ]
        total = num_seeds * num_problems * num_samples * len(mix)
        lines += [f"### {title}: {sum(map(len, draws))} of {total} samples follow a strategy", ""]
        lines += [
            "| canonicaliser | AMI | same strategy, same name | other strategy, other name |",
            "|---|---|---|---|",
        ]
        for key in [*CANONICALISERS, "templates"]:
            names: list[Name] = [
                fitted(mix, seed) if key == "templates" else CANONICALISERS[key]
                for seed in range(num_seeds)
            ]
            inside = np.array(
                [within_problems(traces, name) for traces, name in zip(draws, names, strict=True)]
            ).mean(axis=0)
            cell = with_interval(
                [information(traces, name) for traces, name in zip(draws, names, strict=True)]
            )
            lines.append(f"| {key} | {cell} | {inside[0]:.1%} | {inside[1]:.1%} |")
        lines.append("")
    return lines


def pair_tables() -> list[str]:
    """Agreement with the hand labels, and every disagreement of the best one."""
    rows = solutions()
    named: dict[str, Canonicaliser] = {**CANONICALISERS, "templates": fitted_on_solutions(rows)}
    lines = [
        (
            "| canonicaliser | first sample | second sample | first, notes removed | second, notes"
            " removed |"
        ),
        "|---|---|---|---|---|",
    ]
    for key, name in named.items():
        cells = []
        for annotated in (True, False):
            for number in (1, 2):
                verdicts = [
                    judge(name, pair, rows, annotated) == pair["same"] for pair in pairs(number)
                ]
                cells.append(share(sum(verdicts), len(verdicts)))
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    lines += ["", "Agreement by stratum, both samples, notes kept:", ""]
    lines += [
        "| stratum | labelled same | calculations | operators | dataflow |",
        "|---|---|---|---|---|",
    ]
    both = [*pairs(1), *pairs(2)]
    for stratum in dict.fromkeys(pair["stratum"] for pair in both):
        own = [pair for pair in both if pair["stratum"] == stratum]
        right = [
            sum(judge(named[key], p, rows) == p["same"] for p in own)
            for key in ("calculations", "operators", "dataflow")
        ]
        lines.append(
            f"| {stratum} | {sum(p['same'] for p in own)}/{len(own)} | "
            + " | ".join(f"{r}/{len(own)}" for r in right)
            + " |"
        )
    lines += ["", "Where `dataflow` disagrees with the label, notes kept:", ""]
    for pair in both:
        if judge(named["dataflow"], pair, rows) != pair["same"]:
            label, models = "same" if pair["same"] else "different", " and ".join(pair["models"])
            lines.append(
                f"* sample {pair['sample']}, problem {pair['problem']}, {models}: labelled {label}"
                f" ({pair['reason']})."
            )
    return [*lines, ""]


def main() -> None:
    """Measure everything and write the report."""
    # Warnings of libraries about their own future would bury the report's path.
    warnings.filterwarnings("ignore", category=FutureWarning)
    text = (ROOT / "tools/strategy_quality.md").read_text(encoding="utf-8")
    seeds, traces, problems, samples = 8, 1000, 40, 16
    labelled = ["Not measured: set OUROLOOP_DATA to the folder that holds gsm8k/.", ""]
    if SOLUTIONS.exists():
        labelled = pair_tables()
    parts = {
        "WORLD": world_tables(seeds, traces),
        "MODEL": model_table(4, problems, samples),
        "PAIRS": labelled,
    }
    for key, lines in parts.items():
        text = text.replace(f"{{{key}}}\n", "\n".join(lines) + "\n")
    REPORT.write_text(text, encoding="utf-8")
    print(f"wrote {REPORT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
