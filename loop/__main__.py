"""The command line: what carries out each command of `arguments`.

Imports stand inside the commands, so that `--help` answers at once and a command needs only the
packages that it uses: see `extras`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ouroloop.loop import interrupts
from ouroloop.loop.arguments import Command, parser
from ouroloop.loop.errors import OuroloopError, RunStateError, UserError
from ouroloop.loop.extras import explain, extra_of, require
from ouroloop.loop.secrets import redacted
from ouroloop.loop.storage import storage_error
from ouroloop.loop.views.printable import printable

if TYPE_CHECKING:
    from ouroloop.loop.config import Recipe
    from ouroloop.loop.runner import Outcome
    from ouroloop.loop.views.power import PowerAnalysis


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser(COMMANDS).parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except OuroloopError as error:
        # The message is enough for a person; whoever debugs wants the traceback.
        if os.environ.get("OUROLOOP_DEBUG"):
            raise
        said = "\n".join([str(error), *getattr(error, "__notes__", ())])
        print(printable(f"ouroloop: {redacted(said)}"), file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        # A package of an extra that was not asked for; anything else is a bug and keeps its trace.
        extra = extra_of(error.name)
        if extra is None:
            raise
        print(f"ouroloop: {explain('this command', [str(error.name)], extra)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output, such as `head`, has enough: that is no failure.
        return 0
    except OSError as error:
        known = storage_error(error, _root(options))
        if known is None or os.environ.get("OUROLOOP_DEBUG"):
            raise
        print(printable(f"ouroloop: {known}"), file=sys.stderr)
        return known.exit_code
    except KeyboardInterrupt:
        # `run` and `resume` end otherwise: see `interrupts`.
        print("ouroloop: interrupted.", file=sys.stderr)
        # As a shell reports a process that a signal ended: 128 and the signal's number.
        return 128 + signal.SIGINT


# --- what the commands share ---


def _root(options: argparse.Namespace) -> Path:
    """The folder of all runs."""
    from ouroloop.loop.store import default_root

    return Path(options.runs).resolve() if options.runs else default_root()


def _path(options: argparse.Namespace, name: str) -> Path:
    """A run by name (in the runs folder) or by its folder."""
    for path in (_root(options) / name, Path(name)):
        # RUN.json as well: of a run whose recipe was lost the other files can still be looked at.
        if (path / "recipe.json").exists() or (path / "RUN.json").exists():
            return path.resolve()
    raise RunStateError(
        f"{name}: no such run in {_root(options)}, and no run folder of that path. `ouroloop run"
        " RECIPE` starts one."
    )


def _recipe(given: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its file or by its built-in name."""
    from ouroloop.loop.packaged import find_recipe
    from ouroloop.loop.recipe_file import load_recipe

    return load_recipe(find_recipe(given), overrides)


def _elsewhere(package: str, name: str) -> Command:
    """A command that stands in its own package, imported when it is asked for."""
    home = f"ouroloop.loop.{package}.command"
    return lambda options: getattr(import_module(home), name)(options)


def _print(as_json: bool, to_json: Callable[[], Any], to_text: Callable[[], str]) -> None:
    """Print one of the two forms of a result; only that one is made."""
    if as_json:
        print(json.dumps(to_json(), indent=1, allow_nan=False))
    else:
        print(printable(to_text()))


# --- runs ---


def _run(options: argparse.Namespace) -> int:
    # Before the first file is made: a run that could not train would end after its first sampling.
    require("run", "ouroloop run")
    recipe = _recipe(options.recipe, options.overrides)
    if options.check:
        return _check(recipe, _root(options) / recipe.name, str(options.recipe))
    if options.print:
        print(json.dumps(recipe.to_json(), indent=1))
        return 0
    from ouroloop.loop import runner

    with interrupts.ending_at_once():
        return _exit_code(runner.run(recipe, _root(options), options.fresh))


def _check(recipe: Recipe, run_path: Path, name: str) -> int:
    """Say what can be known of a run before it begins; an error is exit code 2."""
    from ouroloop.loop import checks
    from ouroloop.loop.setup import prepare

    findings = checks.check(prepare(recipe), run_path)
    print(checks.as_text(findings))
    wrong = sum(finding.level is checks.Level.ERROR for finding in findings)
    doubtful = sum(finding.level is checks.Level.WARNING for finding in findings)
    verdict = "not ready to run" if wrong else "ready to run"
    print(f"{name}: {verdict}; errors: {wrong}, warnings: {doubtful}.")
    return 2 if wrong else 0


def _schema(options: argparse.Namespace) -> int:
    from ouroloop.loop.config.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))
    return 0


def _resume(options: argparse.Namespace) -> int:
    require("run", "ouroloop resume")
    from ouroloop.loop import runner

    changed = _recipe(options.recipe) if options.recipe else None
    with interrupts.ending_at_once():
        return _exit_code(runner.resume(_path(options, options.run), changed))


def _exit_code(outcome: Outcome) -> int:
    """3 lets a script distinguish a halted run from a finished one."""
    return 3 if outcome.halted else 0


def _watch(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.watch import watch

    watch(_path(options, options.run))
    return 0


def _report(options: argparse.Namespace) -> int:
    require("report", "ouroloop report")
    from ouroloop.loop.views.report import write_report

    paths = [_path(options, name) for name in options.run]
    print(write_report(paths, options.out or paths[0] / "report.html"))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from ouroloop.loop.views import explain

    print(printable(explain.explain(_path(options, options.run), options.round)))
    return 0


def _show(options: argparse.Namespace) -> int:
    require("report", "ouroloop show")
    from ouroloop.loop.views import show

    wanted = show.Wanted(options.problem, options.strategy, options.rejected)
    print(printable(show.show(_path(options, options.run), options.round, wanted, options.limit)))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.compare import compare, compare_table, write_comparison

    result = compare([_path(options, name) for name in options.run])
    if options.out:
        print(write_comparison(result, options.out))
        return 0
    _print(options.json, lambda: result, lambda: compare_table(result))
    return 0


def _publish(options: argparse.Namespace) -> int:
    from ouroloop.loop.views.card import release
    from ouroloop.loop.views.reader import read_run

    found = release(read_run(_path(options, options.run)), options.round)
    if options.dry_run:
        print("\n".join(f"{size:>14,} {name}" for name, size in found.files))
    if options.dry_run or options.to is None:
        print(printable(found.card))
    else:
        print(found.push(options.to, options.private))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from ouroloop.loop.views import verify
    from ouroloop.loop.views.progress import LiveProgress

    with LiveProgress() as progress:
        checks = verify.checks_of(_path(options, options.run), progress)
    print(printable(verify.table(checks)))
    return 0 if verify.is_whole(checks) else 2


# --- traces and power ---


def _monitor(options: argparse.Namespace) -> int:
    if options.plan:
        return _monitor_plan(options)
    if not options.traces:
        raise UserError(
            "monitor: no traces; expected one JSONL file per round, the baseline round first."
            " docs/traces.md says what is in them."
        )
    from ouroloop.loop.traces.frameworks import Scoring
    from ouroloop.loop.views import monitor

    watched = monitor.monitor(
        options.traces,
        strategies=options.strategies,
        clusters=options.clusters,
        settings=options.settings,
        plan_rounds=options.plan_rounds,
        temperature=options.temperature,
        keep_order=options.keep_order,
        baselines=options.baselines,
        framework=options.framework,
        scoring=Scoring(options.reward, options.pass_mark),
    )
    if options.html:
        from ouroloop.loop.views.trace_page import write_trace_page

        require("report", "ouroloop monitor --html")
        write_trace_page(watched, options.html.stem, options.html)
    _print(options.json, lambda: monitor.to_json(watched), lambda: monitor.text(watched))
    return watched.exit_code


def _monitor_plan(options: argparse.Namespace) -> int:
    """Power analysis of a probe set that is only two numbers, N problems with K samples."""
    from ouroloop.loop.views import monitor, power
    from ouroloop.monitors.traces.rows import TraceError

    rounds = options.plan_rounds or max(monitor.HORIZON, len(options.traces))
    rule = monitor.rule_of(options.settings, rounds)
    num_problems, num_samples = options.plan
    try:
        analysis = power.of_traces(
            rule, num_problems, num_samples, options.traces[:1], options.strategies
        )
    except (TraceError, ValueError) as error:
        raise UserError(str(error)) from error
    return _print_power(options, analysis)


def _plan(options: argparse.Namespace) -> int:
    from ouroloop.evals.tasks import Capability
    from ouroloop.loop.setup import prepare
    from ouroloop.loop.stages import traces
    from ouroloop.loop.stages.decide import decision_rule
    from ouroloop.loop.views import power

    recipe = _recipe(options.recipe, options.overrides)
    setting = prepare(recipe)
    probe_set = setting.probe_set
    unaided = Capability.UNAIDED in setting.task.capabilities
    scored = [p for p in probe_set.problems if unaided or p.answer is not None]
    analysis = power.of_recipe(
        decision_rule(recipe, probe_set.main),
        families=[problem.family for problem in scored],
        num_free=len(probe_set.problems) - len(scored),
        main_family=probe_set.main,
        num_samples=recipe.probe.samples,
        num_baseline_samples=recipe.probe.baseline_samples,
        run_path=_root(options) / recipe.name,
        notes=traces.costs(recipe.probe, len(probe_set.problems)),
    )
    return _print_power(options, analysis)


def _print_power(options: argparse.Namespace, analysis: PowerAnalysis) -> int:
    from ouroloop.loop.views import power

    _print(options.json, lambda: power.to_json(analysis), lambda: power.text(analysis))
    return 0


# --- the installation ---


def _sync(options: argparse.Namespace) -> int:
    from ouroloop.loop.trackers.process import safe_sync

    failure = safe_sync(_path(options, options.run), seconds=None)
    if failure:
        print(f"ouroloop: {failure}", file=sys.stderr)
    return 1 if failure else 0


def _ui(options: argparse.Namespace) -> int:
    require("mlflow", "ouroloop ui")
    from ouroloop.loop.trackers.mlflow import ui

    return ui(_root(options), options.port)


def _doctor(options: argparse.Namespace) -> int:
    from ouroloop.loop import doctor

    return doctor.main(as_json=options.json, deep=options.deep)


# --- experiments ---


def _study(options: argparse.Namespace) -> int:
    from ouroloop.loop.experiments import command

    return command.study(options, _root(options))


def _pretrain(options: argparse.Namespace) -> int:
    require("run", "ouroloop pretrain")
    from ouroloop.loop.starting import worlds

    return worlds.pretrain(options.which, options.out)


COMMANDS = {
    "run": _run,
    "init": _elsewhere("starting", "init"),
    "schema": _schema,
    "resume": _resume,
    "watch": _watch,
    "explain": _explain,
    "show": _show,
    "report": _report,
    "compare": _compare,
    "publish": _publish,
    "verify": _verify,
    "monitor": _monitor,
    "plan": _plan,
    "sync": _sync,
    "ui": _ui,
    "doctor": _doctor,
    "study": _study,
    "bench": _elsewhere("alarms", "alarms"),
    "pretrain": _pretrain,
}

if __name__ == "__main__":
    raise SystemExit(main())
