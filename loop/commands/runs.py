"""Start, prepare and resume runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ouroloop.loop.commands.shared import (
    RECIPE,
    Add,
    add_overrides,
    naming,
    recipe_of,
    root_of,
    run_path,
)
from ouroloop.loop.engines import moved
from ouroloop.loop.extras import require

if TYPE_CHECKING:
    from ouroloop.loop.config import Recipe
    from ouroloop.loop.runner import Outcome


def add_commands(add: Add) -> None:
    """The commands of this file, with their options."""
    run = add("run", "start a run from a recipe", _run)
    run.add_argument("recipe", type=Path, help=RECIPE)
    add_overrides(run, "sampling.max_tokens=128")
    run.add_argument("--fresh", action="store_true", help="delete a run of the same name first")
    run.add_argument(
        "--check",
        action="store_true",
        help="compare the recipe with its data, model and probe set in ten lines, make nothing",
    )
    run.add_argument(
        "--print",
        action="store_true",
        help="print the recipe with every key and start nothing",
    )
    init = add("init", "write a commented recipe for your own model and data", _init)
    init.add_argument("name", help="of the run; the recipe is NAME.yaml in this folder")
    init.add_argument("--model", required=True, help="as in a recipe: a folder or a name")
    init.add_argument(
        "--data",
        required=True,
        help="a .jsonl, .json, .csv, .tsv or .parquet file, a folder of these, or a hub's name",
    )
    init.add_argument("--config", metavar="NAME", help="the data set's configuration, e.g. main")
    init.add_argument("--split", help="of training problems (default: train)")
    init.add_argument("--heldout-split", metavar="SPLIT", help="default: a fifth is held out")
    for column in ("question", "answer", "solution", "messages"):
        init.add_argument(
            f"--{column}", metavar="COLUMN", help="the column that holds it (default: guessed)"
        )
    add(
        "schema",
        "print the JSON schema of a recipe: every key, what it means, its default",
        _schema,
    )
    resume = add("resume", "finish a run that was cut off", _resume)
    resume.add_argument("run", help="name or folder of the run, or the address of its copy")
    resume.add_argument(
        "--moved",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="paths of the recipe that begin with OLD begin with NEW on this host",
    )
    resume.add_argument(
        "--recipe", type=Path, help="refuse to go on unless this recipe is still the run's own"
    )


def _run(options: argparse.Namespace) -> int:
    # Before the first file is made: a run that could not train would end after its first sampling.
    require("run", "ouroloop run")
    recipe = recipe_of(options.recipe, options.overrides)
    if options.check:
        with naming(options.recipe):
            return _check(recipe, options)
    if options.print:
        print(json.dumps(recipe.to_json(), indent=1))
        return 0
    from ouroloop.loop import interrupts, runner

    with interrupts.ending_at_once(), naming(options.recipe):
        return _exit_code(runner.run(recipe, root_of(options), options.fresh))


def _check(recipe: Recipe, options: argparse.Namespace) -> int:
    """Say what can be known of a run before it begins; an error is exit code 2."""
    from ouroloop.loop import checks
    from ouroloop.loop.setup import prepare

    run_path = root_of(options) / recipe.name
    findings = checks.check(prepare(recipe), run_path)
    findings += checks.storage.folder(run_path, fresh=options.fresh)
    print(checks.as_text(findings))
    wrong = sum(finding.level is checks.Level.ERROR for finding in findings)
    doubtful = sum(finding.level is checks.Level.WARNING for finding in findings)
    verdict = "not ready to run" if wrong else "ready to run"
    print(f"{options.recipe}: {verdict}; errors: {wrong}, warnings: {doubtful}.")
    # The code of every other wrong input: a script may put --check before an overnight run.
    return 2 if wrong else 0


def _init(options: argparse.Namespace) -> int:
    from ouroloop.loop.starting import command

    return command.init(options)


def _schema(options: argparse.Namespace) -> int:
    from ouroloop.loop.config.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))
    return 0


def _resume(options: argparse.Namespace) -> int:
    require("run", "ouroloop resume")
    from ouroloop.loop import interrupts, runner

    moved.remember(options.moved)
    # Only compared with the run's own recipe: under another one the rounds would not be one run.
    changed = recipe_of(options.recipe) if options.recipe else None
    with interrupts.ending_at_once():
        return _exit_code(runner.resume(_run_here(options), changed))


def _run_here(options: argparse.Namespace) -> Path:
    """The run's local folder; of one that is kept elsewhere it is fetched first."""
    from ouroloop.loop.folder.mirror import Mirror, is_url

    if is_url(options.run):
        root = root_of(options)
        root.mkdir(parents=True, exist_ok=True)
        return Mirror(options.run).fetch(root)
    return run_path(options, options.run)


def _exit_code(outcome: Outcome) -> int:
    """3 lets a script distinguish a halted run from a finished one."""
    return 3 if outcome.halted else 0
