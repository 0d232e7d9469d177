"""What is sampled beyond the loop: pass@k up to 64, SVAMP, ordinary text, at both ends of a run.

The guard never sees any of it: other held-out problems than the probe set's, a family that is
never practised, and prose. Round 0 is the same model in all arms of a seed, so it is looked at
once. `look` is a `Study.extra`; what is there is not asked again.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.evals.problem_files import read_problem, read_problems
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.experiments import afterwards, rounds
from ouroloop.loop.experiments.afterwards import serve, setting_of
from ouroloop.loop.experiments.lending import lendable
from ouroloop.loop.experiments.study import arm_of, seed_of
from ouroloop.loop.folder.store import read_json, write_json
from ouroloop.loop.records import Problem
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.judging import judge_text
from ouroloop.loop.stages.refine import Refiner, gather_bounded
from ouroloop.loop.views.reader import RunData, read_run
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import mean, paired
from ouroloop.monitors.estimators.ustatistics import distinct_pair_share, pass_at_k

from .data import PROSE, SVAMP

# pass@64 needs 64 samples of each problem; half of the sampled tokens of a whole run.
SAMPLES = 64
NUM_PROBLEMS = 100
KS = (1, 2, 4, 8, 16, 32, 64)
# SVAMP: pass@1 and pass@4 say whether what was learnt carries over.
SVAMP_PROBLEMS, SVAMP_SAMPLES = 100, 8
NUM_PROSE = 60
# Prose is scored as the continuation of this, so that its first word has a distribution too.
BEFORE_PROSE = "Question: "

TEXT_VARIETY = Estimand("repetition/distinct_all@n")
# Compared with round 0 problem by problem, or text by text, so that one run has an interval.
PAIRED = ("far_pass_1", "far_pass_64", "far_dcp", "svamp_pass_1", "prose_nll")
# The arm that every other one is compared with at its end, where its run of the same seed is here.
PLAIN = "unguarded"
# Arms that a guarded one shares its first rounds with.
LENDERS = (PLAIN, "real_30")
FAR = (
    *(f"far_pass_{k}" for k in KS),
    "far_dcp",
    "svamp_pass_1",
    "svamp_pass_8",
    "prose_nll",
    *(f"{name}_{part}" for name in PAIRED for part in ("change", "low", "high")),
    *(f"{name}_over_{part}" for name in PAIRED for part in ("change", "low", "high")),
)


@dataclass(frozen=True)
class Counted:
    """One problem's samples, counted: how many, how many right, pairs of right ones that differ."""

    num: int
    right: int
    dcp: float


@dataclass(frozen=True)
class Look:
    """One model seen from outside the loop.

    Attributes:
        far: problem of ASDiv -> its counts.
        svamp: problem of SVAMP -> its counts.
        prose: mean negative log-probability of each prose text's tokens, nats.
    """

    far: Mapping[str, Counted]
    svamp: Mapping[str, Counted]
    prose: Sequence[float]

    @classmethod
    def read(cls, path: Path) -> Look:
        """From the file that `look` wrote."""
        found = read_json(path)
        counts = {
            name: {problem: Counted(**each) for problem, each in found[name].items()}
            for name in ("far", "svamp")
        }
        return cls(counts["far"], counts["svamp"], found["prose"])

    def pass_at(self, k: int, family: str = "far") -> dict[str, float]:
        """The unbiased pass@k of every problem."""
        counts: Mapping[str, Counted] = getattr(self, family)
        right_P = np.array([each.right for each in counts.values()], dtype=float)
        num_P = np.array([each.num for each in counts.values()], dtype=float)
        return dict(zip(counts, pass_at_k(right_P, num_P, k).tolist(), strict=True))

    def dcp(self) -> dict[str, float]:
        """The distinct-correct-pair probability of every problem."""
        return {problem: each.dcp for problem, each in self.far.items()}

    def paired(self) -> dict[str, dict[str, float]]:
        """Of each name of `PAIRED` the value of every problem or text."""
        return {
            "far_pass_1": self.pass_at(1),
            "far_pass_64": self.pass_at(64),
            "far_dcp": self.dcp(),
            "svamp_pass_1": self.pass_at(1, "svamp"),
            "prose_nll": {str(i): nll for i, nll in enumerate(self.prose)},
        }


async def look(path: Path, engine: Engine) -> None:
    """Look at round 0 and at the last round of a finished run, then let its weights go."""
    run, setting = read_run(path), setting_of(path)
    for number in (0, run.rounds[-1].number):
        file = _file(path, number)
        if not file.exists():
            await serve(engine, run, number)
            file.parent.mkdir(exist_ok=True)
            write_json(file, asdict(await _looked(engine, setting, number)))
    _drop_checkpoints(run)


def _file(path: Path, number: int) -> Path:
    """Round 0's look lies beside the runs, one for each seed; another round's in its run."""
    if number == 0:
        return path.parent / "looks" / f"{seed_of(path)}.json"
    return afterwards.file_of(path, "look", number)


async def _looked(engine: Engine, setting: Setting, number: int) -> Look:
    # A source of its own: its seeds are none of the probe's.
    refiner = Refiner.of(setting, engine, number, (1.0,), source="look")
    probed = {problem.id for problem in setting.probe_set.problems}
    heldout = [p for p in setting.task.problems("heldout") if p.id not in probed]
    far = await _counted(refiner, setting, heldout[:NUM_PROBLEMS], SAMPLES)
    svamp = read_problems(SVAMP, read_problem)[:SVAMP_PROBLEMS]
    near = await _counted(refiner, setting, svamp, SVAMP_SAMPLES)
    return Look(far, near, await _prose_nll(engine))


async def _counted(
    refiner: Refiner, setting: Setting, problems: Sequence[Problem], num: int
) -> dict[str, Counted]:
    temperature, strategy = setting.recipe.probe.temperature, setting.strategy
    # `dataflow` names a text at once; only strategies that are learned on round 0 do not.
    assert callable(strategy)

    async def one(problem: Problem) -> Counted:
        asked = [refiner.probe(problem, i, temperature) for i in range(num)]
        texts = [answer.text for answer in await gather_bounded(asked, num)]
        read = [judge_text(problem, text, setting.task, strategy) for text in texts]
        # Right answers whose calculations cannot be read are one kind together: no pair of them
        # counts as distinct.
        ways = [str(each.strategy) for each in read if each.grade.correct]
        return Counted(num, len(ways), _dcp(num, ways))

    # Whole problems at a time, so that their samples share the prompt's cache.
    limit = max(1, setting.recipe.engine.concurrency // num)
    found = await gather_bounded([one(problem) for problem in problems], limit)
    return dict(zip((problem.id for problem in problems), found, strict=True))


def _dcp(num: int, ways: Sequence[str]) -> float:
    """P(two of `num` samples are both right and by different ways), unbiased."""
    same = sum(ways.count(way) * (ways.count(way) - 1.0) for way in set(ways))
    (share,) = distinct_pair_share(
        np.array([float(num)]), np.array([float(len(ways))]), np.array([same])
    )
    return float(share)


async def _prose_nll(engine: Engine) -> list[float]:
    """Of each prose text, nats a token; the stop token after it is no part of it."""
    lines = PROSE.read_text(encoding="utf-8").splitlines()[:NUM_PROSE]
    texts = [json.loads(line)["question"] for line in lines]
    scored = await engine.score([(BEFORE_PROSE, text) for text in texts])
    return [-float(np.mean(each.logprobs[:-1])) for each in scored if len(each.logprobs) > 1]


def _drop_checkpoints(run: RunData) -> None:
    """Delete the weights of a run that is finished and looked at: half a gigabyte a round.

    But for those of rounds that the guarded arm, which comes later, may be lent.
    """
    kept = lendable(run.path) if arm_of(run.path) in LENDERS else 0
    for found in run.rounds:
        if found.number > kept:
            shutil.rmtree(found.path / "checkpoint", ignore_errors=True)


# -- the rows of results.csv ------------------------------------------------------------------


def table(path: Path) -> list[dict[str, Any]]:
    """A row per round: what the probe set says, and `FAR` where the run was looked at."""
    run = read_run(path)
    first, plain = _read(_file(path, 0)), _end_of_plain(path)
    rows = []
    for row, found in zip(rounds.table(path), run.rounds, strict=True):
        seen = first if found.number == 0 else _read(_file(path, found.number))
        is_end = found is run.rounds[-1] and found.number > 0
        rows.append(
            {name: value for name, value in row.items() if name in KEPT}
            | {
                **rounds.values(found, {"text_variety": TEXT_VARIETY}),
                "probe_tokens": float(found.probe["num_tokens"].sum()),
                "examples": float(len(found.examples)),
            }
            | _far(seen, {"": first, "over_": plain if is_end else None})
        )
    return rows


# Of the usual columns those that this study can have.
KEPT = (
    *("round", "action", "mode", "pass_1", "greedy", "pass_k", "maj_k", "dcp", "entropy"),
    *("overconfidence", "text_cross_entropy", "yield", "replay_fraction", "tokens"),
    *("watch_log_e", "halt_log_e", "driver"),
)


def _read(file: Path) -> Look | None:
    return Look.read(file) if file.exists() else None


def _end_of_plain(path: Path) -> Look | None:
    """The look at the end of the plain arm's run of the same seed; None where it is not here."""
    other = path.with_name(f"{PLAIN}-{seed_of(path)}")
    looks = sorted(other.glob("look-*.json"))
    return _read(looks[-1]) if looks and other != path else None


def _far(seen: Look | None, others: Mapping[str, Look | None]) -> dict[str, float]:
    """`FAR` of a look, and how it differs from others, paired by problem; NaN without a look."""
    out = dict.fromkeys(FAR, math.nan)
    if seen is None:
        return out
    out |= {f"far_pass_{k}": mean(list(seen.pass_at(k).values())).value for k in KS}
    out |= {name: mean(list(values.values())).value for name, values in seen.paired().items()}
    out["svamp_pass_8"] = mean(list(seen.pass_at(SVAMP_SAMPLES, "svamp").values())).value
    for which, other in others.items():
        if other is None:
            continue
        before = other.paired()
        for name, now in seen.paired().items():
            change = paired(now, before[name]).interval()
            out |= {
                f"{name}_{which}change": change.value,
                f"{name}_{which}low": change.low,
                f"{name}_{which}high": change.high,
            }
    return out
