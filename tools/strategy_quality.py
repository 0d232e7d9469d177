"""How well the canonicalisers name strategies, measured.

`python -m tools.strategy_quality` writes docs/strategy-quality.md, with the measures of
`tools/strategy_measures.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

from ouroloop.monitors.estimators.stats import binomial
from ouroloop.monitors.strategies.strategy import CANONICALISERS, Canonicaliser
from tools.strategy_measures import (
    CHECKPOINT,
    MIXES,
    ROOT,
    SOLUTIONS,
    Name,
    draw,
    fitted,
    fitted_on_solutions,
    information,
    judge,
    pairs,
    sample,
    solutions,
    within_problems,
)
from tools.strategy_words import in_words

REPORT = ROOT / "docs/strategy-quality.md"


def with_interval(values: Sequence[float]) -> str:
    """Mean over seeds with its 95 % t-interval, and the least."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:.3f} ± {half:.3f} (least {min(values):.3f})"


def share(right: int, total: int) -> str:
    """A share with its Clopper-Pearson interval."""
    found = binomial(right, total)
    return f"{right}/{total} = {found.value:.0%} [{found.low:.0%}, {found.high:.0%}]"


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
