"""What trackers show of a round, as plain names and values. Knows no server."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

from ouroloop.loop.costs import COST
from ouroloop.loop.folder.integrity import COMMITTED, MANIFEST
from ouroloop.loop.views.measures import MEASURES
from ouroloop.loop.views.reader import Json, RoundData, RunData
from ouroloop.loop.views.report import trace
from ouroloop.loop.views.responses import JUDGED_BY

# MLflow's page of a run becomes slow and unreadable beyond a hundred charts.
MAX_POINTS = 99
# Half of what MLflow takes: nobody reads more of a round's reasons in a cell.
MAX_TAG_LENGTH = 4000
WITH_INTERVAL = ("pass@1", "dcp")


def points(run: RunData, round: RoundData) -> dict[str, float]:
    """Metric name -> value of one round, undefined ones left out, at most `MAX_POINTS`.

    The headline numbers come first, then the round's work (`data/`, `train/`), then every other
    reading. A reading's name is its estimand's id.
    """
    found: dict[str, float] = {}
    for measure in MEASURES:
        name, value = measure.of(round).id, measure.read(round)
        found[name] = value.value
        if measure.key in WITH_INTERVAL:
            found |= {f"{name}_low": value.low, f"{name}_high": value.high}
    for key in ("num_examples", "num_tokens", "seconds"):
        if round.train.get(key) is not None:  # round 0 trains nothing
            found[f"train/{key}"] = round.train[key]
    found["data/replay_fraction"] = float(round.plan.get("replay_fraction") or 0.0)
    if len(round.pairs):
        found["data/pairs"] = float(len(round.pairs))
    found["data/seconds"] = run.seconds(round.number)
    # What a frozen judge says, and what a round costs, must not fall behind the limit.
    first = [r for r in round.readings if r.estimand.statistic.startswith((*JUDGED_BY, COST))]
    found |= {reading.name: reading.value for reading in (*first, *round.readings)}
    # NaN is undefined: a gap in the chart says so, a 0 would lie.
    defined = [(plain(name), float(value)) for name, value in found.items() if value == value]
    return dict(defined[:MAX_POINTS])


def tags(run: RunData, round: RoundData) -> dict[str, str]:
    """The round's decision, in words."""
    return {
        "decision": round.action,
        "decision.carried_out": str(round.carried_out).lower(),
        "decision.reasons": "; ".join(map(str, round.decision.get("reasons", [])))[:MAX_TAG_LENGTH],
        "objective": round.objective,
        "stage": str(round.plan.get("stage", "")),
        "training": str(round.train.get("status", "none")),
        "checkpoint": str(run.checkpoint(round.number) or ""),
    }


def sample_rows(round: RoundData, limit: int) -> Iterator[dict[str, str]]:
    """Up to `limit` samples evenly spaced over the round, as readable text."""
    if not limit:
        return
    verdicts = round.verdicts.to_dict("records")
    step = max(1, math.ceil(len(verdicts) / limit))
    wanted = {verdict["sample_id"]: verdict for verdict in verdicts[::step]}
    if not wanted:
        return
    for chain in round.samples():
        verdict = wanted.get(chain["id"])
        if verdict is None:
            continue
        story = trace(verdict, chain)
        turns: dict[str, list[str]] = {}
        for kind, text in story["turns"]:
            turns.setdefault(kind, []).append(text)
        row = {
            "verdict": "kept" if verdict["kept"] else "rejected",
            "reasons": ", ".join(story["reasons"]),
            "problem": story["question"],
        }
        # A chain of several revisions still is one row: MLflow's table has a cell per kind.
        for kind in ("draft", "critique", "revision"):
            row[kind] = "\n---\n".join(turns.get(kind, []))
        row["final"] = str(verdict["text"])
        row["strategy"] = str(verdict.get("strategy") or "")
        yield row


def curve(round: RoundData) -> Iterator[tuple[int, dict[str, float]]]:
    """(step, names -> values) along the round's training."""
    for row in round.train.get("loss", []):
        values = {}
        for key in ("loss", "entropy", "rewards/margins", "rewards/accuracies"):
            if row.get(key) is not None:
                values[f"train/{key}"] = float(row[key])
        yield int(row["step"]), values


def flat(values: Json, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and text of every leaf of a recipe."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield plain(f"{prefix}{key}"), str(value)


def weights_sha256(run: RunData, round: RoundData, checkpoint: Path) -> str:
    """The checkpoint's fingerprint: SHA-256 in hexadecimal digits.

    Of its own weights as the manifest has it, or of the base model's. Of weights in several files
    it is that of the lines `SHA-256  name`, in order of name, which `sha256sum *.safetensors`
    prints in the checkpoint's folder.
    """
    sums = {
        name.removeprefix("checkpoint/"): str(about["sha256"])
        for name, about in sorted(round.manifest.get("files", {}).items())
        if name.startswith("checkpoint/") and name.endswith(".safetensors")
    }
    if len(sums) == 1:
        return next(iter(sums.values()))
    if sums:
        lines = "".join(f"{found}  {name}\n" for name, found in sums.items())
        return hashlib.sha256(lines.encode()).hexdigest()
    if round.path in checkpoint.parents:
        # A checkpoint of the round's own, but its manifest lists no weights.
        return ""
    return str(run.env.get("base_sha256", ""))


def plain(name: str) -> str:
    """A name that MLflow accepts: `accuracy/pass@1:sum2` becomes `accuracy/pass_at_1:sum2`."""
    return re.sub(r"[^\w\-./ :]", "_", name.replace("@", "_at_"))


def committed_at(round: RoundData) -> int:
    """Milliseconds at which the round was committed; the same in every sync."""
    # It is part of what makes two metric points equal, so a copied run must have it too.
    said = round.manifest.get(COMMITTED)
    # Older versions did not say it. The manifest is the last file of a commit, and who changes it
    # later puts its time back (`retention._mark`).
    time = (round.path / MANIFEST).stat().st_mtime if said is None else float(said)
    return int(1000 * time)


def began(run: RunData, number: int | None = None) -> int | None:
    """Milliseconds of the first event of the run, or of a round."""
    events = run.events
    if number is not None:
        events = tuple(event for event in events if event.get("round") == number)
    times = [event["time"] for event in events if "time" in event]
    return int(1000 * min(times)) if times else None


def ended(run: RunData) -> int | None:
    """Milliseconds of the last event."""
    times = [event["time"] for event in run.events if "time" in event]
    return int(1000 * max(times)) if times else None
