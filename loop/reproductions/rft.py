"""Rejection-sampling fine-tuning (2308.01825).

Gold traces, then a model's own distinct right paths beside them, then those of several models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals.steps import calculation_key
from ouroloop.evals.worlds.arithmetic.world import STRATEGY_WEIGHTS
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import SMALL_ENGINE, Results, Study
from ouroloop.loop.experiments.tables import Columns, gain, last
from ouroloop.loop.reproductions.base import Reproduction, has
from ouroloop.loop.views.reader import read_run

FAMILY = "sum3"
QUESTIONS = 400
K = 9
EQUAL = 500
"""Sampled paths that the arms of equal size train on.

Each of them keeps more, so that all have as many.
"""
TEMPERATURES = [0.7, 1.0, 1.3]
MODELS = ["@gold", "@gold_b", "@gold_c"]
WITH_TEACHER = ["@gold", "@gold_b", "@gold_teacher"]
RARER = sorted(STRATEGY_WEIGHTS, key=lambda strategy: STRATEGY_WEIGHTS[strategy])[:2]
"""The two strategies that the gold solutions use least."""

BASE: dict[str, Any] = {
    "model": "arithmetic/base",
    "rounds": 1,
    "engine": SMALL_ENGINE,
    "init": "base",
    "task": {"kind": "arithmetic", "families": [FAMILY], "num_problems": QUESTIONS},
    "sampling": {
        "student": False,
        "problems_per_round": QUESTIONS,
        "samples_per_problem": K,
        "temperatures": [0.7],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "calculations", "per_problem": None},
    "dataset": {"gold": True},
    "sft": {"learning_rate": 5.0e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32},
    "probe": {
        "problems": 400,
        "family_problems": 0,
        "samples": 4,
        "baseline_samples": 2,
        "pass_at": 2,
        "majority": 4,
        "critiques": 0,
        "texts": 8,
        "audit_items": 0,
    },
    "monitors": {"guard": False, "baselines": [0]},
    "tracking": {"mlflow": False},
}

OWN: dict[str, Any] = {"teachers": ["@gold"]}
THIRD: dict[str, Any] = {"samples_per_problem": K // len(MODELS)}

ARMS: dict[str, dict[str, Any]] = {
    "gold": {},
    "gold_long": {"sft": {"num_train_epochs": 9}},
    "gold_b": {"seed": 1000},
    "gold_c": {"seed": 2000},
    "gold_teacher": {"model": "arithmetic/teacher"},
    "k1": {**OWN, "sampling": {"samples_per_problem": 1}},
    "k3": {**OWN, "sampling": {"samples_per_problem": 3}},
    "k9": OWN,
    "models": {"teachers": MODELS},
    "k9_steps": {**OWN, "filters": {"steps": True}},
    "models_steps": {"teachers": MODELS, "filters": {"steps": True}},
    "with_teacher": {"teachers": WITH_TEACHER},
    "with_teacher_steps": {"teachers": WITH_TEACHER, "filters": {"steps": True}},
    "k9_equal": {**OWN, "dataset": {"size": EQUAL}},
    "temperatures_equal": {
        **OWN,
        "sampling": {"temperatures": TEMPERATURES},
        "dataset": {"size": EQUAL},
    },
    "models_equal": {"teachers": MODELS, "sampling": THIRD, "dataset": {"size": EQUAL}},
    "k27": {**OWN, "sampling": {"samples_per_problem": K * len(MODELS)}},
    "k27_steps": {
        **OWN,
        "sampling": {"samples_per_problem": K * len(MODELS)},
        "filters": {"steps": True},
    },
}
"""gold: supervised fine-tuning. gold_long: the same for three times the epochs.

Gold_b, gold_c, gold_teacher: further models that draft. k1, k3, k9:

samples per question from `gold`. models: k = 9 from each of three; with_teacher: one of the three
is another base. *_equal: nine samples a question in all, `EQUAL` paths learnt. *_steps: the step
gate beside the answer. k27: as many samples as `models` draws, of `gold` alone; run when named.
"""


def measure(path: Path) -> list[dict[str, Any]]:
    """One row per round: accuracy of the held-out questions, and what was trained on.

    paths: distinct lists of calculations per question. false_paths: share of the sampled paths,
    right in their answer, that hold a wrong step. greedy_rarer: share of the greedy answers by one
    of the `RARER` strategies, right or wrong. solved_rarer: share of the questions that some sample
    solves by one.
    """
    rows = []
    for found in read_run(path).rounds:
        trained, probe = found.examples, found.probe
        rarer = probe[probe["strategy"].isin(RARER)]
        num_problems = probe["problem"].nunique()
        kept = found.verdicts[found.verdicts["kept"]] if len(found.verdicts) else found.verdicts
        paths = (
            {(row.problem_id, calculation_key(row.text)) for row in trained.itertuples()}
            if len(trained)
            else set()
        )
        rows.append(
            {
                "round": found.number,
                **{
                    name: found.score(metric)[0]
                    for name, metric in (
                        ("greedy", "greedy"),
                        ("pass_1", "pass@1"),
                        ("maj_k", "maj@k"),
                    )
                },
                "sampled": int((trained["origin"] == "kept").sum()) if len(trained) else 0,
                "false_paths": float(kept["valid"].eq(False).mean()) if len(kept) else 0.0,
                "examples": len(trained),
                "paths": len(paths) / max(1, len({problem for problem, _ in paths})),
                "greedy_rarer": rarer[rarer["kind"] == "greedy"]["problem"].nunique()
                / num_problems,
                "solved_rarer": (
                    rarer[(rarer["kind"] == "sample") & (rarer["correct"] == 1)][
                        "problem"
                    ].nunique()
                    / num_problems
                ),
            }
        )
    return rows


STUDY = Study(
    "rft",
    BASE,
    ARMS,
    measure=measure,
    quick={"task": {"num_problems": 200}, "probe": {"problems": 200}},
    quick_arms=("gold", "k1", "k9", "models"),
    further=("k27", "k27_steps"),
)

COLUMNS: Columns = {
    "sampled paths": (last("sampled"), ""),
    "... by wrong steps": (last("false_paths"), "%"),
    "distinct paths per question": (last("paths"), ""),
    "maj@1 (greedy)": (last("greedy"), "%"),
    "maj@4": (last("maj_k"), "%"),
    "pass@1, T = 1": (last("pass_1"), "%"),
    "greedy answers by a rarer strategy": (last("greedy_rarer"), "%"),
    "questions solved by one (4 samples)": (last("solved_rarer"), "%"),
}


def goals(results: Results) -> Sequence[Goal]:
    """Each published step, and that it is the mix and the paths, not the count and the steps."""
    asked = (
        (
            "k9",
            "gold",
            (
                "the model's own right paths add to supervised fine-tuning (maj@1, k9 minus gold;"
                " interval above 0)"
            ),
        ),
        (
            "k9",
            "gold_long",
            (
                "... and to supervised fine-tuning of three times the epochs (k9 minus gold_long;"
                " interval above 0)"
            ),
        ),
        (
            "models",
            "k9",
            "several models' paths add to the model's own (models minus k9; interval above 0)",
        ),
        (
            "with_teacher",
            "k9",
            (
                "... also where one of the three is another base (with_teacher minus k9; interval"
                " above 0)"
            ),
        ),
        (
            "with_teacher_steps",
            "with_teacher",
            (
                "... where wrong steps are turned away (with_teacher_steps minus with_teacher;"
                " interval above 0)"
            ),
        ),
        (
            "models_steps",
            "k9_steps",
            (
                "... and several models' paths add to the model's own (models_steps minus k9_steps;"
                " interval above 0)"
            ),
        ),
        (
            "models",
            "k27",
            "... and to as many samples of the one model (models minus k27; interval above 0)",
        ),
        (
            "models_steps",
            "k27_steps",
            (
                "... the same where wrong steps are turned away (models_steps minus k27_steps;"
                " interval above 0)"
            ),
        ),
        ("k9", "k1", "more distinct paths per question add (k9 minus k1; interval above 0)"),
        (
            "models_equal",
            "k9_equal",
            f"at {EQUAL} paths each, three models beat one (interval above 0)",
        ),
        (
            "temperatures_equal",
            "k9_equal",
            f"at {EQUAL} paths each, three temperatures beat one (interval above 0)",
        ),
    )
    return [
        Goal.above(asks, gain(results, arm, over, last("greedy")), unit="%")
        for arm, over, asks in asked
        if has(results, arm, over)
    ]


def draw(results: Results, figure: Any) -> None:
    """Distinct paths per question against maj@1.

    A point per run, a line through the means of the arms that differ in k.

    Squares: equal sizes; triangles: `STUDY.further`.
    """
    axes = figure.subplots()
    means: dict[str, tuple[float, float]] = {}
    shown = [arm for arm in results if arm not in ("gold_b", "gold_c", "gold_teacher")]
    for i, arm in enumerate(shown):
        runs, marker = (
            results[arm],
            ("s" if arm.endswith("_equal") else "^" if arm in STUDY.further else "o"),
        )
        xs, ys = (
            [float(run[-1]["paths"]) for run in runs.values()],
            [100 * float(run[-1]["greedy"]) for run in runs.values()],
        )
        axes.plot(xs, ys, marker, color=f"C{i % 10}", markersize=4, alpha=0.8, label=arm)
        means[arm] = (sum(xs) / len(xs), sum(ys) / len(ys))
    joined = [means[arm] for arm in ("gold", "k1", "k3", "k9", "k27") if arm in means]
    axes.plot(*zip(*joined, strict=True), color="grey", linewidth=1, zorder=0)
    axes.set_xlabel("distinct paths per question in the training set", fontsize=8)
    axes.set_ylabel("maj@1, %", fontsize=8)
    axes.tick_params(labelsize=8)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False
    )


REPRODUCTION = Reproduction(
    study=STUDY,
    title="Rejection-sampling fine-tuning (RFT)",
    paper="Yuan et al. 2023, arXiv 2308.01825",
    claim=(
        "A fine-tuned model's own right solutions, one per distinct list of calculations, join the"
        " gold ones and the base is fine-tuned on all: it gets better, and better still with"
        " several models' solutions, which hold more distinct paths per question."
    ),
    published=(
        "| LLaMA-7B on GSM8K | maj@1 |",
        "|---|---|",
        "| supervised fine-tuning on gold solutions | 35.9 % |",
        "| RFT, k = 100 samples of the same model | 41.7 % |",
        "| RFT, samples of several models | 49.3 % |",
    ),
    differs=(
        "three-digit sums, of which the base has seen a few in pretraining; k = 9 instead of 100,"
        " because a question has four kinds of right path here and samples soon repeat themselves."
        " The further models of `models` are the same base fine-tuned with other seeds; of"
        " `with_teacher`, a better pretrained checkpoint too. The lists of calculations are"
        " compared without their order. All seeds have the same questions; they differ in sampling"
        " and training. `models` draws three times as many samples as `k9`. `k27`, the one model"
        " drawn as often, was added to look into what that costs: strategies that it seldom uses,"
        " each path counted once, take a larger share, and the greedy answer is more often by one"
        " of those, which this base seldom gets right, while more questions are solved by one."
    ),
    columns=COLUMNS,
    goals=goals,
    draw=draw,
)
