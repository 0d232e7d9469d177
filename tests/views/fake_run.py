"""A run directory made up by a small story, in every file's real format.

One arm is steered, the other collapses.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import pandas as pd

from ouroloop.loop.folder.integrity import COMMITTED
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.stages import costs
from ouroloop.monitors.registry import measure_all, monitors_for

STRATEGIES = ("column", "split", "round", "jump")
START = {"column": 0.38, "split": 0.30, "round": 0.20, "jump": 0.12}
FAMILIES = {"worded": 40, "longer": 12, "rare_only": 12, "copying": 12}
CLOCK = 1_790_000_000.0


def make_run(
    folder: Path,
    name: str,
    guarded: bool = True,
    rounds: int = 7,
    seed: int = 0,
    finished: bool = True,
) -> Path:
    """Write `folder/name` with round 0 and `rounds` more, and return it.

    `finished` False adds a round without a manifest.
    """
    rng = random.Random(seed)
    run = folder / name
    (run / "rounds").mkdir(parents=True)
    recipe = resolve(
        {
            "name": name,
            "rounds": max(1, rounds),
            "monitors": {"guard": guarded},
            "tracking": {"table_rows": 12},
        }
    )
    _write(run / "recipe.json", recipe.to_json())
    _write(run / "probe_set.json", {"main": "worded", "families": {}, "heldout_questions": []})
    _write(
        run / "env.json",
        {
            "python": "3.11",
            "fingerprint": recipe.fingerprint(),
            "base_sha256": "b" * 64,
            "started": CLOCK + seed,
        },
    )
    events: list[dict[str, Any]] = [{"time": CLOCK, "event": "run_started", "round": 0}]
    for number in range(rounds + 1):
        _round(run, number, guarded, rng, events, seed)
    if finished:
        events.append({"time": CLOCK + 60 * (rounds + 1), "event": "run_finished", "round": rounds})
    else:
        (run / "rounds" / f"{rounds + 1:03d}").mkdir()
        events.append(
            {"time": CLOCK + 60 * (rounds + 1), "event": "round_started", "round": rounds + 1}
        )
        events.append(
            {
                "time": CLOCK + 60 * (rounds + 1) + 5,
                "event": "progress",
                "stage": "sampling",
                "done": 40,
                "total": 200,
            }
        )
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return run


def add_events(run: Path, *events: dict[str, Any]) -> None:
    """Append events to the run's log, one second apart."""
    with (run / "events.jsonl").open("a") as file:
        for second, event in enumerate(events):
            file.write(json.dumps({"time": CLOCK + 3600 + second, **event}) + "\n")


REASON = "EngineError: the engine ended\n  CUDA <out of memory>"
"""Two lines and a mark-up character, as a real traceback has them."""
STARTED = {"event": "run_started"}
FAILED = {"event": "run_failed", "error": REASON}
PROGRESS = {"event": "progress", "stage": "sampling", "done": 40, "total": 200}
FINISHED = {"event": "run_finished"}


def make_failed_run(folder: Path, name: str = "broken", rounds: int = 1) -> Path:
    """A run that failed while it sampled.

    Its log goes on with one progress event, as older versions wrote it.
    """
    run = make_run(folder, name, rounds=rounds, finished=False)
    add_events(run, FAILED, PROGRESS)
    return run


def seal(folder: Path) -> None:
    """Write the manifest of a round folder, again after a change: the round exists from here on."""
    files = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    files.pop("MANIFEST.json", None)
    sums = {
        n: {"sha256": hashlib.sha256(p.read_bytes()).hexdigest(), "bytes": p.stat().st_size}
        for n, p in files.items()
    }
    made = CLOCK + 60.0 * int(folder.name)
    _write(folder / "MANIFEST.json", {COMMITTED: made, "files": sums})


def accuracy(number: int, guarded: bool) -> float:
    """Held-out accuracy of the story."""
    return (
        0.52 + 0.28 * (1 - math.exp(-number / 2.5)) - (0 if guarded else 0.035 * max(0, number - 3))
    )


def mix(number: int, guarded: bool) -> dict[str, float]:
    """Strategy shares of the story.

    The unguarded arm ends with one strategy, two of four die out.
    """
    sharpness = 1 + (0.12 if guarded else 0.55) * number
    raw = {s: START[s] ** sharpness for s in STRATEGIES}
    return {s: v / sum(raw.values()) for s, v in raw.items()}


def _round(
    run: Path,
    number: int,
    guarded: bool,
    rng: random.Random,
    events: list[dict[str, Any]],
    seed: int,
) -> None:
    folder = run / "rounds" / f"{number:03d}"
    folder.mkdir()
    began = CLOCK + 60 * number
    events.append({"time": began, "event": "round_started", "round": number})
    previous = max(0, number - 1)
    replayed = 0.3 if guarded and number > 3 else 0.0
    _write(
        folder / "plan.json",
        {
            "round": number,
            "start_from": previous,
            "temperatures": [1.0],
            "replay_fraction": replayed,
            "per_strategy": 0.4 if replayed else None,
            "num_problems": 50,
            "why": (
                ["replay fraction 0% -> 30%, from demonstrations"]
                if replayed and number == 4
                else []
            ),
        },
    )
    kept = _sampling(folder, number, guarded, rng) if number else 0
    _probe(folder, number, guarded, rng)
    if number:
        _training(folder, number, previous, kept, replayed)
    _readings(folder, number, (guarded, seed, number))
    action, reasons = _decision(number, guarded)
    _write(
        folder / "decision.json",
        {
            "round": number,
            "action": action,
            "reasons": reasons,
            "mode": None if action == "continue" else "sharpening",
            "carried_out": guarded or action == "continue",
        },
    )
    seal(folder)
    events.append({"time": began + 41.5, "event": "round_committed", "round": number})


def _decision(number: int, guarded: bool) -> tuple[str, list[str]]:
    if number == 3 or (not guarded and number in (4, 5)):
        return "reinject", [
            f"distinct correct pairs fell by {12 + 9 * (number - 3)} % of round 0's (tolerated:"
            " 10 %)"
        ]
    if not guarded and number >= 6:
        return "rollback", [
            "accuracy fell by 4.1 points against round 0 (tolerated: 2.0)",
            "rare strategies lost 81 % of their mass",
        ]
    return "continue", ["every monitor is within its tolerance"]


def _sampling(folder: Path, number: int, guarded: bool, rng: random.Random) -> int:
    shares, verdicts, lines, examples = mix(number, guarded), [], [], []
    for index in range(200):
        problem, a, b = f"p{number}-{index // 4}", rng.randint(11, 79), rng.randint(11, 79)
        strategy, right = (
            rng.choices(STRATEGIES, list(shares.values()))[0],
            rng.random() < accuracy(number, guarded),
        )
        answer, sample = a + b + (0 if right else 10), f"r{number:03d}-{index:04d}"
        text = f"{strategy}: {a} + {b} = {answer}\n#### {answer}"
        reasons = [] if right else ["gold"]
        reasons += ["duplicates"] if right and rng.random() < 0.2 else []
        reasons += ["format"] if rng.random() < 0.03 else []
        revised = rng.random() < (0.15 if right else 0.5)
        draft = {
            "completion": _completion(
                sample,
                f"{strategy}: {a} + {b} = {a + b + 1}\n#### {a + b + 1}" if revised else text,
            )
        }
        critiques = [
            {
                "completion": _completion(
                    sample, "reject: the first line is wrong" if revised else "approve"
                ),
                "approved": not revised,
                "probability": 0.8,
                "principle": None,
            }
        ]
        revisions = [{"completion": _completion(sample, text)}] if revised else []
        lines.append(
            {
                "id": sample,
                "problem_id": problem,
                "index": index % 4,
                "temperature": 1.0,
                "draft": draft,
                "critiques": critiques,
                "revisions": revisions,
                "draft_prompt_token_ids": [1, 2],
            }
        )
        verdicts.append(
            {
                "sample_id": sample,
                "problem_id": problem,
                "text": text,
                "kept": not reasons,
                "reasons": reasons,
                "answer": str(answer),
                "correct": right,
                "valid": right,
                "strategy": strategy,
                "approved": None if revised else True,
                "agreement": 0.5,
                "temperature": 1.0,
                "num_tokens": 12,
                "revised": revised,
                "like_critique": 0.1 if revised else None,
                "like_draft": 0.6 if revised else None,
                "question": f"A shop has {a} <b>pears</b> and gets {b} more. How many?",
                "gold": str(a + b),
            }
        )
        if not reasons:
            examples.append(
                {
                    "problem_id": problem,
                    "prompt_token_ids": [1, 2, 3],
                    "completion_token_ids": [4, 5],
                    "text": text,
                    "origin": "kept",
                    "round": number,
                    "strategy": strategy,
                    "sample_id": sample,
                }
            )
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pd.DataFrame(verdicts).to_parquet(folder / "verdicts.parquet")
    pd.DataFrame(examples).to_parquet(folder / "examples.parquet")
    return len(examples)


def _completion(sample: str, text: str) -> dict[str, Any]:
    return {
        "request_id": sample,
        "prompt_token_ids": [1, 2],
        "token_ids": [4, 5],
        "logprobs": [-0.1, -0.2],
        "text": text,
        "finish_reason": "stop",
        "weight_version": "r",
    }


def _probe(folder: Path, number: int, guarded: bool, rng: random.Random) -> None:
    shares, rows = mix(number, guarded), []
    for family, count in FAMILIES.items():
        base = (
            accuracy(number, guarded)
            - {
                "worded": 0,
                "longer": 0.35,
                "rare_only": 0.2 if guarded else 0.1 + 0.06 * number,
                "copying": 0,
            }[family]
        )
        for problem in range(count):
            skill = min(0.98, max(0.02, base + rng.gauss(0, 0.2)))
            for k in range(9):
                right = rng.random() < skill
                strategy = rng.choices(STRATEGIES, list(shares.values()))[0]
                wrong = str(
                    100 + (problem if rng.random() < 0.4 + 0.08 * number * (not guarded) else k)
                )
                rows.append(
                    {
                        "problem": f"{family}-{problem}",
                        "family": family,
                        "slice": "tail" if problem % 4 == 0 else "typical",
                        "kind": "greedy" if k == 8 else "sample",
                        "correct": float(right),
                        "valid": float(right),
                        "strategy": strategy if family != "copying" else None,
                        "answer": None if number == 2 else "42" if right else wrong,
                        "nll": 0.4 / (1 + 0.2 * number),
                        "num_tokens": 20.0,
                        "truncated": 0.0,
                        "text": f"{strategy} ... #### 42",
                    }
                )
    pd.DataFrame(rows).to_parquet(folder / "probe.parquet")
    critics = [
        {
            "problem": f"worded-{i}",
            "approved": float(i % 3 > 0),
            "probability": 0.7,
            "correct": float(i % 3 > 0),
            "agreement": None,
            "num_tokens": 9.0,
        }
        for i in range(30)
    ]
    pd.DataFrame(critics).to_parquet(folder / "critics.parquet")
    texts = [
        {
            "problem": f"real-{i}",
            "family": "worded",
            "nll": 0.6 + 0.01 * i,
            "entropy": 0.5 / (1 + 0.2 * number),
            "exact": True,
            "num_tokens": 20.0,
            "text": "a real text",
        }
        for i in range(12)
    ]
    pd.DataFrame(texts).to_parquet(folder / "texts.parquet")
    traces = [
        {
            "problem": f"worded-{i // 2}",
            "family": "worded",
            "slice": "typical",
            "group": "split" if i % 2 else "column",
            "share": 0.4,
            "logprob": -5.0 - 0.5 * number * (i % 2),
            "num_tokens": 20.0,
            "text": f"answer {i}",
        }
        for i in range(12)
    ]
    pd.DataFrame(traces).to_parquet(folder / "traces.parquet")
    planted = [
        {
            "problem": f"real-{i // 2}",
            "kind": "right" if i % 2 else "wrong_answer",
            "right": float(i % 2),
            "accepted": float(i % 2 or i % 12 == 0),
            "reasons": [],
            "approved": None,
            "probability": None,
            "text": "a planted text",
            "num_tokens": 0.0,
        }
        for i in range(24)
    ]
    pd.DataFrame(planted).to_parquet(folder / "audit.parquet")


READINGS: dict[tuple[bool, int, int], list[Any]] = {}
"""By arm, seed and round, which fix a round's samples: measuring takes most of a run's time."""


def _readings(folder: Path, number: int, story: tuple[bool, int, int]) -> None:
    if story not in READINGS:
        reference = Round(folder.parent / "000").view if number else None
        readings = measure_all(Round(folder).view, reference, monitors_for("worded"))
        readings += costs.read(Round(folder))
        READINGS[story] = [_finite(r.to_json()) for r in readings]
    _write(folder / "readings.json", READINGS[story])


def _training(folder: Path, number: int, start: int, kept: int, replayed: float) -> None:
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "model.safetensors").write_bytes(bytes([number]) * 64)
    loss = [
        {
            "step": step,
            "loss": 0.6 / (1 + 0.2 * number) * math.exp(-step / 40) + 0.1,
            "entropy": 0.3 / (1 + 0.1 * step),
        }
        for step in range(5, 45, 5)
    ]
    _write(
        folder / "train.json",
        {
            "status": "trained",
            "reason": "",
            "num_examples": kept,
            "num_tokens": kept * 14,
            "seconds": 11.3,
            "loss": loss,
            "checkpoint": f"rounds/{number:03d}/checkpoint",
            "init": str(start),
            "by_origin": {"kept": kept, "demonstration": int(replayed * kept)},
            "sft_config": {"learning_rate": 5e-4, "num_train_epochs": 2},
        },
    )


def _write(path: Path, value: Any) -> None:
    # Without indents: with them Python, not C, would write each of thousands of readings.
    path.write_text(json.dumps(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
