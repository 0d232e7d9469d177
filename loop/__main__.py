"""The command line. Heavy imports live inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ouroloop.loop.arguments import Command, parser
from ouroloop.loop.errors import OuroloopError, RunStateError, UserError

if TYPE_CHECKING:
    from ouroloop.monitors.decision.populations import Design, Population
    from ouroloop.monitors.decision.rule import DecisionRule


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser(COMMANDS).parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except OuroloopError as error:
        if os.environ.get("OUROLOOP_DEBUG"):
            raise
        print(f"ouroloop: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("ouroloop: interrupted; `ouroloop resume RUN` goes on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _root(options: argparse.Namespace) -> Path:
    from ouroloop.loop.store import default_root

    return Path(options.runs).resolve() if options.runs else default_root()


def _path(options: argparse.Namespace, name: str) -> Path:
    """A run by name (in the runs folder) or by its folder."""
    for path in (_root(options) / name, Path(name)):
        if (path / "recipe.json").exists():
            return path.resolve()
    raise RunStateError(
        f"{name}: no such run in {_root(options)}, and no run folder of that path. `ouroloop run"
        " RECIPE` starts one."
    )


def _run(options: argparse.Namespace) -> int:
    from ouroloop.loop.recipe_file import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    if options.check:
        from ouroloop.loop.setup import prepare

        setting = prepare(recipe)
        print(json.dumps(recipe.to_json(), indent=1))
        print(
            f"{options.recipe}: fine. {len(setting.problems):,} problems,"
            f" {len(setting.probe_set.problems)} in the panel.",
            file=sys.stderr,
        )
        return 0
    from ouroloop.loop import runner

    return 3 if runner.run(recipe, _root(options), options.fresh).halted else 0


def _resume(options: argparse.Namespace) -> int:
    from ouroloop.loop import runner
    from ouroloop.loop.recipe_file import load_recipe

    changed = load_recipe(options.recipe) if options.recipe else None
    return 3 if runner.resume(_path(options, options.run), changed).halted else 0


def _watch(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.watch import watch

    watch(_path(options, options.run))
    return 0


def _report(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.report import write_report

    paths = [_path(options, name) for name in options.run]
    print(write_report(paths, options.out or paths[0] / "report.html"))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.compare import compare, compare_table

    result = compare([_path(options, name) for name in options.run])
    print(json.dumps(result, indent=1) if options.json else compare_table(result))
    return 0


def _monitor(options: argparse.Namespace) -> int:
    from ouroloop.loop.views import monitor

    if options.plan:
        return _monitor_plan(options)
    if not options.traces:
        raise UserError(
            "monitor: no traces; expected one JSONL file per round, the anchor first."
            " docs/traces.md says what is in them."
        )
    watched = monitor.monitor(
        options.traces,
        options.strategies,
        options.settings,
        options.plan_rounds,
        options.temperature,
        options.keep_order,
        options.baselines,
    )
    print(
        json.dumps(monitor.to_json(watched), indent=1, allow_nan=False)
        if options.json
        else monitor.text(watched)
    )
    return watched.exit_code


def _monitor_plan(options: argparse.Namespace) -> int:
    from ouroloop.loop.views import monitor
    from ouroloop.loop.views import power as plan
    from ouroloop.monitors.decision.populations import Design
    from ouroloop.monitors.traces.rows import TraceError

    rule = monitor.rule_of(
        options.settings, options.plan_rounds or max(monitor.HORIZON, len(options.traces))
    )
    try:
        found = (
            plan.population_of_traces(options.traces[0], options.strategies, rule)
            if options.traces
            else None
        )
        others = len(found.others.problems) if found and found.others else 0
        design = Design(options.plan[0], options.plan[1], 4 * options.plan[1], others)
    except (TraceError, ValueError) as error:
        raise UserError(str(error)) from error
    return _print_plan(options, rule, design, found)


def _plan(options: argparse.Namespace) -> int:
    from ouroloop.loop.recipe_file import load_recipe
    from ouroloop.loop.setup import prepare
    from ouroloop.loop.stages.decide import panel
    from ouroloop.loop.views import power as plan
    from ouroloop.monitors.decision.populations import Design

    recipe = load_recipe(options.recipe, options.overrides)
    asked, probe = prepare(recipe).probe_set, recipe.probe
    rule = panel(recipe, asked.main)
    found = plan.population_of_run(_root(options) / recipe.name, rule)
    num_main = sum(p.family == asked.main for p in asked.problems)
    others = (
        len(found.others.problems) if found and found.others else len(asked.problems) - num_main
    )
    design = Design(num_main, probe.samples, probe.baseline_samples or 4 * probe.samples, others)
    return _print_plan(options, rule, design, found)


def _print_plan(
    options: argparse.Namespace, rule: DecisionRule, design: Design, found: Population | None
) -> int:
    from ouroloop.loop.views import power as plan

    planned = plan.plan(rule, design, found)
    print(
        json.dumps(plan.plan_json(planned), indent=1, allow_nan=False)
        if options.json
        else plan.plan_text(planned)
    )
    return 0


def _sync(options: argparse.Namespace) -> int:
    from ouroloop.loop.trackers.mlflow import safe_sync

    failure = safe_sync(_path(options, options.run))
    if failure:
        print(f"ouroloop: {failure}", file=sys.stderr)
    return 1 if failure else 0


def _ui(options: argparse.Namespace) -> int:
    from ouroloop.loop.trackers.mlflow import ui

    return ui(_root(options), options.port)


def _doctor(options: argparse.Namespace) -> int:
    from ouroloop.loop import doctor

    return doctor.main(as_json=options.json, deep=options.deep)


def _study(options: argparse.Namespace) -> int:
    from ouroloop.loop.experiments import command

    return command.study(options, _root(options))


def _pretrain(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.progress import LiveProgress

    try:
        from ouroloop.evals.worlds.arithmetic import card, pretrain
    except ImportError as error:
        raise UserError(
            f"pretrain needs torch and transformers ({error}). `ouroloop doctor` says how to"
            " install them."
        ) from error
    out = options.out or Path(pretrain.__file__).parent
    for which in ("base", "teacher") if options.which == "both" else (options.which,):
        with LiveProgress() as progress:
            path = pretrain.pretrain(
                pretrain.CHECKPOINTS[which],
                out / which,
                partial(_tell, progress, "pretraining", which),
            )
            card.write_card(path, partial(_tell, progress, "measuring", which))
        print(path / "README.md")
    return 0


def _tell(
    progress: Callable[[str, int, int, str], None], stage: str, which: str, done: int, total: int
) -> None:
    progress(stage, done, total, which)


COMMANDS = {
    "run": _run,
    "resume": _resume,
    "watch": _watch,
    "report": _report,
    "compare": _compare,
    "monitor": _monitor,
    "plan": _plan,
    "sync": _sync,
    "ui": _ui,
    "doctor": _doctor,
    "study": _study,
    "pretrain": _pretrain,
}

if __name__ == "__main__":
    raise SystemExit(main())
