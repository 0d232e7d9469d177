"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ouroloop.evals.steps import calculation_key
from ouroloop.evals.worlds.arithmetic.world import STRATEGY_WEIGHTS
from ouroloop.loop.views.reader import read_run

# The two strategies that the gold solutions use least.
RARER = sorted(STRATEGY_WEIGHTS, key=lambda strategy: STRATEGY_WEIGHTS[strategy])[:2]


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
