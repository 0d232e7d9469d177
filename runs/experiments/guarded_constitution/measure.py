"""What is kept of a run: a row per round in results.csv."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ouroloop.evals.worlds.arithmetic import principles
from ouroloop.loop.experiments.rounds import mean_of, tokens, values
from ouroloop.loop.folder.store import CLUSTERS
from ouroloop.loop.views.reader import RoundData
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.ustatistics import distinct_pair_share, same_pairs
from ouroloop.monitors.strategies.responses import ResponseClusters

from ..constitutional import measure as constitutional

RED_TEAM, HELPFUL = constitutional.RED_TEAM, constitutional.HELPFUL
APPROVALS = ("harmless", "helpful")
APPROVED = {f"approved_{name}": Estimand(f"responses/approved_{name}") for name in APPROVALS}


def row(found: RoundData) -> dict[str, Any]:
    """One round: violations by programs, help by answers, diversity by clusters.

    NaN where a value is undefined. violations, greedy_violations: per response to a red-team
    problem, of four principles. pass_1, greedy: right answers to red-team problems; helpful,
    helpful_greedy: of helpful families. Neither training nor guard saw which answers are right.
    apart: share of pairs of a problem's samples in different response clusters; apart_red_team,
    apart_helpful: of those families; apart_revised: of the red team's samples, had programs revised
    them by every principle. approved_*: by the frozen judge. tokens: sampled for training.
    """
    probe = found.probe
    sampled, greedy = probe[probe["kind"] == "sample"], probe[probe["kind"] == "greedy"]
    decision = found.decision
    watch = decision.get("evidence", {}).get("watch") or {}
    return {
        "round": found.number,
        "action": found.action,
        "carried_out": float(found.carried_out),
        "mode": decision.get("mode") or "",
        "driver": str(watch.get("driver") or ""),
        "violations": _violations(sampled),
        "greedy_violations": _violations(greedy),
        "pass_1": _right(sampled, (RED_TEAM,)),
        "greedy": _right(greedy, (RED_TEAM,)),
        "helpful": _right(sampled, HELPFUL),
        "helpful_greedy": _right(greedy, HELPFUL),
        "apart": apart(sampled),
        "apart_red_team": apart(_of(sampled, (RED_TEAM,))),
        "apart_helpful": apart(_of(sampled, HELPFUL)),
        "apart_revised": apart(_revised(found, _of(sampled, (RED_TEAM,)))),
        **values(found, APPROVED),
        "replay_fraction": found.plan.get("replay_fraction", math.nan),
        "examples": found.train.get("num_examples", math.nan),
        "tokens": sum(tokens(sample) for sample in found.samples()) if found.number else 0,
    }


def apart(sampled: Any) -> float:
    """Mean over problems of the unbiased share of sample pairs in different response clusters.

    As the metric of this name; NaN where no sample has a cluster.
    """
    if "cluster" not in sampled or sampled["cluster"].isna().all():
        return math.nan
    # A sample without a cluster gets -1: such samples are a cluster together.
    (problem_N, problems), (cluster_N, _) = (
        sampled[column].factorize() for column in ("problem", "cluster")
    )
    num_P = np.bincount(problem_N).astype(float)
    same_P = same_pairs(problem_N, cluster_N, len(problems))
    share_P = distinct_pair_share(num_P, num_P, same_P)
    return mean_of(share for share in share_P if not math.isnan(share))


def _of(rows: Any, families: tuple[str, ...]) -> Any:
    return rows[rows["family"].isin(families)]


def _revised(found: RoundData, rows: Any) -> Any:
    """The rows with the clusters that their texts have once programs revised them."""
    path = found.path.parent.parent / CLUSTERS
    if not path.exists():
        return rows.drop(columns="cluster", errors="ignore")
    problems = constitutional.problems()
    texts = []
    for problem, text in zip(rows["problem"], rows["text"], strict=True):
        for principle in principles.PRINCIPLES:
            text = principles.revise(principle, problems[problem], text)
        texts.append(text)
    clusters = ResponseClusters.from_json(path.read_text(encoding="utf-8"))
    return rows.assign(cluster=clusters.labels(texts, list(rows["problem"])))


def _violations(rows: Any) -> float:
    mine = _of(rows, (RED_TEAM,))
    problems = constitutional.problems()
    counts = [
        float(sum(principles.violations(problems[problem], text).values()))
        for problem, text in zip(mine["problem"], mine["text"], strict=True)
    ]
    return mean_of(counts)


def _right(rows: Any, families: tuple[str, ...]) -> float:
    return float(_of(rows, families)["correct"].mean())
