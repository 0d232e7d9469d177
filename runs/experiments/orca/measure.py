"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.experiments import rounds
from ouroloop.loop.experiments.study import last_checkpoint
from ouroloop.loop.folder.store import read_json, read_rows, write_json
from ouroloop.loop.objectives import training
from ouroloop.loop.records import Request, Sampling
from ouroloop.loop.stages.prompts import render
from ouroloop.loop.views.reader import read_run

from .systems import FORMS, NAMES, NEEDED, form_of

# Held-out problems of each family in `NEEDED`, asked under each system prompt.
NUM_ASKED = 30

GREEDY = Sampling(temperature=0.0, max_tokens=80)


async def ask_under_each(path: Path, engine: Engine) -> None:
    """Write lines.json of a run: greedy answers to `NEEDED` under each system prompt.

    right: share of right answers; form: share in the form that was asked for.
    """
    # Resumable: an interrupted study asks again only where the file is not there.
    out = path / "lines.json"
    if out.exists():
        return
    task, checkpoint = ArithmeticTask(), last_checkpoint(path)
    await engine.load(checkpoint, training.weight_sync_of(checkpoint, path))
    items = [
        p
        for family in NEEDED
        for p in [p for p in task.problems("heldout") if p.family == family][:NUM_ASKED]
    ]
    found = {}
    for system, form in FORMS.items():
        asked = [
            Request(
                f"lines/{form}/{p.id}",
                render(world.PROMPTS, world.PROMPTS.draft, system, question=p.question),
                GREEDY,
                seed=0,
            )
            for p in items
        ]
        texts = [
            answer.text
            for answer in await asyncio.gather(*(engine.complete(request) for request in asked))
        ]
        right = [task.grade(p, text).correct for p, text in zip(items, texts, strict=True)]
        found[system] = {
            "right": sum(map(bool, right)) / len(items),
            "form": sum(form_of(text) == form for text in texts) / len(items),
        }
    write_json(out, found)


def measure(path: Path) -> list[dict[str, Any]]:
    """The loop's rows, with greedy accuracy by family, what was learnt by form, and lines.json.

    What is learnt is NaN before training.
    """
    run, rows = read_run(path), rounds.table(path)
    for row, found in zip(rows, run.rounds, strict=True):
        for family in world.FAMILIES:
            row |= {
                f"{family}_{key}": found.score(metric, family)[0]
                for key, metric in (("pass_1", "pass@1"), ("greedy", "greedy"))
            }
        # Nothing was learnt or filtered before round 1.
        examples = read_rows(found.path / "examples.parquet") if found.number else []
        right = (
            {v["sample_id"]: v["correct"] for v in read_rows(found.path / "verdicts.parquet")}
            if found.number
            else {}
        )
        row["learnt"] = float(len(examples))
        row["learnt_right"] = (
            sum(right[e["sample_id"]] for e in examples) / len(examples) if examples else math.nan
        )
        learnt = [form_of(e["text"]) for e in examples if e["problem_id"].split("-")[0] in NEEDED]
        row |= {
            f"learnt_{form}": learnt.count(form) / len(learnt) if learnt else math.nan
            for form in dict.fromkeys(FORMS.values())
        }
        lines = read_json(path / "lines.json") if found.number else {}
        row |= {
            f"{name}_{key}": lines.get(system, {}).get(key, math.nan)
            for system, name in NAMES.items()
            for key in ("right", "form")
        }
    return rows
