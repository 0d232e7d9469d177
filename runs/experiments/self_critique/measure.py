"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.evals.tasks import Problem, Task
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.afterwards import setting_of
from ouroloop.loop.experiments.rounds import mean_of
from ouroloop.loop.views.lookup import MAIN
from ouroloop.loop.views.reader import RoundData, read_run
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.reliability import debiased_ece
from ouroloop.monitors.metrics.calibration import auroc

from . import chains
from .chains import Chain, right

MAIN_FAMILY = "sum2"
OTHERS = tuple(family for family in world.FAMILIES if family != MAIN_FAMILY)

# A revision is measured by family, where there are steps, and on the tail of the main one.
PARTS = (MAIN_FAMILY, "tail", *(f for f in OTHERS if f not in world.SKILLS))
WAYS = ("answering", "direct")

OVERCONFIDENCE = Estimand("calibration/overconfidence@n")


def table(path: Path) -> list[dict[str, Any]]:
    """`rounds.table` with what this study adds, a row per round."""
    run, setting = read_run(path), setting_of(path)
    problems = {p.id: p for p in setting.problems}
    out = []
    for row, found in zip(rounds.table(path), run.rounds, strict=True):
        samples = list(found.samples()) if found.number else []
        looked = chains.read(path, found.number)
        out.append(
            {
                **row,
                **confidence(found),
                **supply(found),
                **spent(samples),
                **changed(samples, problems, setting.task),
                **critics(looked),
                **{name: value for way in WAYS for name, value in gains(looked, way).items()},
            }
        )
    return out


# -- calibration -------------------------------------------------


def confidence(found: RoundData) -> dict[str, float]:
    """How sure the model is, by its votes and by its tokens, beside how often it is right.

    over_main, over_others: over-confidence of majority votes, the practised family and the mean
    over the others. token_: of the probe's samples, the mean probability of a token (geometric,
    within a sample) as the confidence in the whole answer; gap: less the share of right answers;
    auroc: how well it ranks right above wrong samples; ece: signed root of the debiased square.
    """
    over = found.find(OVERCONFIDENCE)
    by_family = over.details.get("families", {}) if over is not None else {}
    main = found.find(Estimand(OVERCONFIDENCE.statistic, MAIN))
    drawn = found.probe[found.probe["kind"] == "sample"]
    is_main = drawn["family"] == MAIN_FAMILY
    return {
        "over_main": math.nan if main is None else main.value,
        "over_others": mean_of(value_of(by_family.get(family)) for family in OTHERS),
        **by_tokens(drawn[is_main], "token"),
        **by_tokens(drawn[~is_main], "others_token"),
        "others_pass_1": mean_of(
            drawn["correct"][drawn["family"] == family].mean() for family in OTHERS
        ),
    }


def value_of(estimate: Mapping[str, Any] | None) -> float:
    """The value of an estimate in a reading's details; NaN where it is undefined."""
    value = None if estimate is None else estimate.get("value")
    return math.nan if value is None else float(value)


def by_tokens(drawn: Any, name: str) -> dict[str, float]:
    """Confidence, gap, ranking and error of the mean token probability."""
    known = drawn[drawn["nll"].notna() & drawn["correct"].notna()]
    claimed = np.exp(-known["nll"].to_numpy(dtype=float))
    correct = known["correct"].to_numpy(dtype=float)
    if not len(known):
        claimed = correct = np.full(1, math.nan)
    return {
        f"{name}_confidence": float(claimed.mean()),
        f"{name}_gap": float((claimed - correct).mean()),
        f"{name}_auroc": auroc(claimed, correct),
        f"{name}_ece": debiased_ece(claimed, correct) if len(known) else math.nan,
    }


# -- what was kept, and what it cost -------------------------------------------------


def supply(found: RoundData) -> dict[str, float]:
    """Kept samples: how many, how many of them revisions, right, and right by right steps."""
    if not len(found.verdicts):
        return dict.fromkeys(("kept", "kept_revised", "kept_right", "kept_sound"), math.nan)
    kept = found.verdicts[found.verdicts["kept"]]
    correct = kept["correct"] == True  # noqa: E712  (a column of True, False and None)
    return {
        "kept": float(len(kept)),
        "kept_revised": share(kept["revised"]),
        "kept_right": share(correct),
        "kept_sound": share(correct & (kept["valid"] == True)),  # noqa: E712
    }


def spent(samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Tokens that the round sampled to train on, by what they were."""
    return {
        "draft_tokens": float(sum(length(s["draft"]) for s in samples)),
        "critique_tokens": float(
            sum(length(c["completion"]) for s in samples for c in s["critiques"])
        ),
        "revision_tokens": float(sum(length(r) for s in samples for r in s["revisions"])),
    }


def length(completion: Mapping[str, Any]) -> int:
    """Tokens of a completion in the journal, the stop token among them."""
    return len(completion["token_ids"])


def changed(
    samples: Iterable[Mapping[str, Any]], problems: Mapping[str, Problem], task: Task
) -> dict[str, float]:
    """Of the round's own revised samples: how many were repaired, and how many spoilt.

    repaired: a wrong draft became right, as a share of revised wrong drafts; spoilt: a right one
    became wrong, as a share of revised right ones. unreadable: critiques without a verdict.
    """
    repaired, spoilt, unreadable = list[float](), list[float](), list[float]()
    for sample in samples:
        unreadable += [float(c["approved"] is None) for c in sample["critiques"]]
        if not sample["revisions"]:
            continue
        problem = problems[sample["problem_id"]]
        before = right(task, problem, sample["draft"]["text"])
        after = right(task, problem, sample["revisions"][-1]["text"])
        if before:
            spoilt.append(1 - after)
        else:
            repaired.append(after)
    return {
        "repaired": mean_of(repaired),
        "spoilt": mean_of(spoilt),
        "unreadable": mean_of(unreadable),
    }


# -- chains of the first and the last model -------------------------------------------------


def critics(looked: Sequence[Chain]) -> dict[str, float]:
    """The model's own critic and the frozen judge on the same drafts of all families with steps.

    _accuracy: balanced, of readable verdicts; _approves_wrong: approved ones among wrong drafts;
    _unreadable: share of drafts without a verdict; _over: P(approve) less the share of drafts that
    deserve it.
    """
    out: dict[str, float] = {}
    for who in ("own", "frozen"):
        read = [c for c in looked if c[f"{who}_approved"] is not None]
        approves = {
            truth: mean_of(c[f"{who}_approved"] for c in read if c["sound"] == truth)
            for truth in (0.0, 1.0)
        }
        sure = [c for c in looked if c[f"{who}_probability"] is not None]
        out |= {
            f"{who}_accuracy": (approves[1.0] + 1 - approves[0.0]) / 2,
            f"{who}_approves_wrong": approves[0.0],
            f"{who}_unreadable": mean_of(c[f"{who}_approved"] is None for c in looked),
            f"{who}_over": mean_of(c[f"{who}_probability"] - c["sound"] for c in sure),
        }
    return out


def gains(looked: Sequence[Chain], way: str) -> dict[str, float]:
    """Right answers after a revision less right drafts, by part; a kept draft gains nothing."""
    out = {}
    for part in PARTS:
        there = [c for c in looked if belongs(c, part)]
        out[f"{way}_{part}"] = mean_of(c[way] - c["right"] for c in there)
    return out


def belongs(chain: Chain, part: str) -> bool:
    """Whether a chain's problem is of that family, or of the practised one's tail."""
    if part == "tail":
        return bool(chain["slice"] == "tail" and chain["family"] == MAIN_FAMILY)
    return bool(chain["family"] == part)


def share(values: Any) -> float:
    """The share of true ones; NaN of none."""
    return float(values.mean()) if len(values) else math.nan
