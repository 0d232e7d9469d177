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

from loop import __version__
from loop.errors import OuroloopError, RunStateError, UserError

if TYPE_CHECKING:
    from loop.studies.study import Study
    from monitors.panel import Panel
    from monitors.populations import Design, Population

REPORTS = Path("docs/reproductions")
EPILOG = """\
examples:
  ouroloop run runs/recipes/demo.yaml                            a guarded run on the embedded small model
  ouroloop run runs/recipes/demo.yaml --set rounds=3 --set name=short
  ouroloop report demo unguarded                                 two arms side by side in one HTML page
  ouroloop ui                                                    MLflow on 127.0.0.1
  ouroloop monitor round0.jsonl round1.jsonl round2.jsonl        any loop's rounds, judged from their traces

exit codes: 0 finished; 2 wrong input (nothing was made); 3 halted by a monitor; 1 a bug or a failed engine
Runs lie in ./runs, or in the folder that $OUROLOOP_RUNS or --runs names.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
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


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="ouroloop", description="Rounds of draft, critique, revise, filter and SFT, steered before the model collapses.", epilog=EPILOG,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"ouroloop {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=raw)
        sub.set_defaults(command=function)
        sub.add_argument("--runs", type=Path, default=None, metavar="DIR", help="folder of all runs (default: $OUROLOOP_RUNS or ./runs)")
        return sub

    run = add("run", _run, "start a run from a recipe")
    run.add_argument("recipe", type=Path, help="YAML file; see runs/recipes/")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change a key, e.g. sampling.max_tokens=128")
    run.add_argument("--fresh", action="store_true", help="delete a run of the same name first")
    run.add_argument("--check", action="store_true", help="check the recipe and all that it names, print it resolved, make nothing")
    resume = add("resume", _resume, "finish a run that was cut off")
    resume.add_argument("run", help="name or folder of the run")
    resume.add_argument("--recipe", type=Path, help="refuse to go on unless this recipe is still the run's own")
    watch = add("watch", _watch, "follow a run live from another terminal")
    watch.add_argument("run", help="name or folder of the run")
    report = add("report", _report, "write one HTML page of a run, or of several side by side")
    report.add_argument("run", nargs="+", help="names or folders of runs; the first is the one told about")
    report.add_argument("--out", type=Path, help="default: report.html in the first run's folder")
    compare = add("compare", _compare, "put the rounds of several runs side by side")
    compare.add_argument("run", nargs="+", help="names or folders of runs")
    compare.add_argument("--json", action="store_true", help="for scripts")
    monitor = add("monitor", _monitor, "judge the rounds of any loop from its traces, one JSONL file per round; docs/traces.md is the format")
    monitor.add_argument("traces", nargs="*", type=Path, help="JSONL files in the order of the rounds; the first is the anchor")
    monitor.add_argument("--strategies", metavar="NAME", help="name strategies from the texts: operators (default without a `strategy` field), "
                         "calculations, calculation_list, dataflow, plan, answer, or none")
    monitor.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help="a field of the decision rule, e.g. "
                         "accuracy_loss=0.02, alpha=0.1, main_family=algebra")
    monitor.add_argument("--plan-rounds", type=_positive, metavar="T", help="rounds planned in all (default: 20, or the number of files if more)")
    monitor.add_argument("--temperature", type=float, default=1.0, help="at which the traces were sampled; trace entropy needs 1 (the default)")
    monitor.add_argument("--keep-order", action="store_true", help="the files are in order, whatever the numbers in their names say")
    monitor.add_argument("--anchors", nargs="+", type=int, default=[0], metavar="N", help="rounds, fixed in advance, that others are held against "
                         "(default: 0; the loop itself holds them against 0 and 1, which sees losses of what round 1 gained)")
    monitor.add_argument("--json", action="store_true", help="for scripts")
    monitor.add_argument("--plan", nargs=2, type=_positive, metavar=("N", "K"), help="judge nothing: say which losses N problems with K samples "
                         "each would show, on the first file's model or a typical one")
    plan = add("plan", _plan, "say which losses a recipe's panel would show, and which not")
    plan.add_argument("recipe", type=Path, help="YAML file; where its run has a round 0, that model is taken, else a typical one")
    plan.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change a key, e.g. probe.problems=500")
    plan.add_argument("--json", action="store_true", help="for scripts")
    sync = add("sync", _sync, "bring MLflow up to date with a run (again)")
    sync.add_argument("run", help="name or folder of the run")
    ui = add("ui", _ui, "open MLflow's pages on 127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    doctor = add("doctor", _doctor, "say what is installed, what would break, and the command that mends it")
    doctor.add_argument("--json", action="store_true", help="for scripts")
    doctor.add_argument("--deep", action="store_true", help="also import the heavy libraries (slower)")
    study = add("study", _study, "run the arms of a study over several seeds, or go on with them; see loop/studies/")
    study.add_argument("name", choices=["collapse"])
    study.add_argument("--quick", action="store_true", help="fewer rounds, to see that it works; tables go to the folder of the runs")
    study.add_argument("--arms", nargs="+", metavar="ARM", help="default: all")
    study.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    study.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    study.add_argument("--out", type=Path, default=Path("docs/studies/collapse"), help="folder of the runs' tables (CSV)")
    study.add_argument("--table", action="store_true", help="run nothing; print what the finished runs come to")
    reproduce = add("reproduce", _reproduce, "re-run a published system's headline result on the small world, beside the published numbers")
    reproduce.add_argument("names", nargs="*", metavar="NAME", help="default: all; --list names them")
    reproduce.add_argument("--list", action="store_true", help="names, papers and claims; run nothing")
    reproduce.add_argument("--quick", action="store_true", help="smaller and one seed, in minutes; its tables stay in the folder of the runs")
    reproduce.add_argument("--seeds", nargs="+", type=int, metavar="N", help="default: each reproduction's own")
    reproduce.add_argument("--arms", nargs="+", metavar="ARM", help="default: all")
    reproduce.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    reproduce.add_argument("--out", type=Path, help=f"folder of the tables and figures (default: {REPORTS}; with --quick beside the runs)")
    reproduce.add_argument("--page", type=Path, default=Path("REPRODUCTIONS.md"), help="the page of all that is finished")
    reproduce.add_argument("--table", action="store_true", help="run nothing; write the tables of what is finished")
    reproduce.add_argument("--no-mlflow", dest="mlflow", action="store_false", help="no MLflow run per arm")
    pretrain = add("pretrain", _pretrain, "rebuild a world's small checkpoints")
    pretrain.add_argument("world", choices=["arithmetic"])
    pretrain.add_argument("--which", choices=["base", "teacher", "both"], default="both")
    pretrain.add_argument("--out", type=Path, help="folder for the checkpoints (default: where the built-in ones lie)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a whole number of at least 1")
    return int(text)


def _root(options: argparse.Namespace) -> Path:
    from loop.store import default_root

    return Path(options.runs).resolve() if options.runs else default_root()


def _path(options: argparse.Namespace, name: str) -> Path:
    """A run by name (in the runs folder) or by its folder."""
    for path in (_root(options) / name, Path(name)):
        if (path / "recipe.json").exists():
            return path.resolve()
    raise RunStateError(f"{name}: no such run in {_root(options)}, and no run folder of that path. `ouroloop run RECIPE` starts one.")


def _run(options: argparse.Namespace) -> int:
    from loop.recipe_file import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    if options.check:
        from loop.setup import prepare

        setting = prepare(recipe)
        print(json.dumps(recipe.to_json(), indent=1))
        print(f"{options.recipe}: fine. {len(setting.problems):,} problems, {len(setting.panel.problems)} in the panel.", file=sys.stderr)
        return 0
    from loop import runner

    return 3 if runner.run(recipe, _root(options), options.fresh).halted else 0


def _resume(options: argparse.Namespace) -> int:
    from loop import runner
    from loop.recipe_file import load_recipe

    changed = load_recipe(options.recipe) if options.recipe else None
    return 3 if runner.resume(_path(options, options.run), changed).halted else 0


def _watch(options: argparse.Namespace) -> int:
    from loop.views.watch import watch

    watch(_path(options, options.run))
    return 0


def _report(options: argparse.Namespace) -> int:
    from loop.views.report import write_report

    paths = [_path(options, name) for name in options.run]
    print(write_report(paths, options.out or paths[0] / "report.html"))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from loop.views.compare import compare, compare_table

    result = compare([_path(options, name) for name in options.run])
    print(json.dumps(result, indent=1) if options.json else compare_table(result))
    return 0


def _monitor(options: argparse.Namespace) -> int:
    from loop.views import monitor

    if options.plan:
        return _monitor_plan(options)
    if not options.traces:
        raise UserError("monitor: no traces; expected one JSONL file per round, the anchor first. docs/traces.md says what is in them.")
    watched = monitor.monitor(
        options.traces, options.strategies, options.settings, options.plan_rounds, options.temperature, options.keep_order, options.anchors,
    )
    print(json.dumps(monitor.to_json(watched), indent=1, allow_nan=False) if options.json else monitor.text(watched))
    return watched.exit_code


def _monitor_plan(options: argparse.Namespace) -> int:
    from loop.views import monitor, plan
    from monitors.populations import Design
    from monitors.trace_rows import TraceError

    rule = monitor.panel_of(options.settings, options.plan_rounds or max(monitor.HORIZON, len(options.traces)))
    try:
        found = plan.population_of_traces(options.traces[0], options.strategies, rule) if options.traces else None
        others = len(found.others.problems) if found and found.others else 0
        design = Design(options.plan[0], options.plan[1], 4 * options.plan[1], others)
    except (TraceError, ValueError) as error:
        raise UserError(str(error)) from error
    return _print_plan(options, rule, design, found)


def _plan(options: argparse.Namespace) -> int:
    from loop.recipe_file import load_recipe
    from loop.setup import prepare
    from loop.stages.decide import panel
    from loop.views import plan
    from monitors.populations import Design

    recipe = load_recipe(options.recipe, options.overrides)
    asked, probe = prepare(recipe).panel, recipe.probe
    rule = panel(recipe, asked.main)
    found = plan.population_of_run(_root(options) / recipe.name, rule)
    num_main = sum(p.family == asked.main for p in asked.problems)
    others = len(found.others.problems) if found and found.others else len(asked.problems) - num_main
    design = Design(num_main, probe.samples, probe.anchor_samples or 4 * probe.samples, others)
    return _print_plan(options, rule, design, found)


def _print_plan(options: argparse.Namespace, rule: Panel, design: Design, found: Population | None) -> int:
    from loop.views import plan

    planned = plan.plan(rule, design, found)
    print(json.dumps(plan.plan_json(planned), indent=1, allow_nan=False) if options.json else plan.plan_text(planned))
    return 0


def _sync(options: argparse.Namespace) -> int:
    from loop.views.tracking import safe_sync

    failure = safe_sync(_path(options, options.run))
    if failure:
        print(f"ouroloop: {failure}", file=sys.stderr)
    return 1 if failure else 0


def _ui(options: argparse.Namespace) -> int:
    from loop.views.tracking import ui

    return ui(_root(options), options.port)


def _doctor(options: argparse.Namespace) -> int:
    from loop import doctor

    return doctor.main(as_json=options.json, deep=options.deep)


def _study(options: argparse.Namespace) -> int:
    from loop.studies import collapse, harness

    study, runs = collapse.STUDY, _root(options) / "studies" / (options.name + "-quick" * options.quick)
    out = runs / "tables" if options.quick else options.out.resolve()
    if not options.table:
        harness.run(study, _arms(options, study), options.seeds, runs, out, options.jobs, options.quick)
    print(collapse.write(harness.results(study, out), out))
    return 0


def _arms(options: argparse.Namespace, study: Study) -> list[str]:
    """The arms that were asked for: all, or with --quick those that suffice to see the effect."""
    arms = options.arms or list((study.quick_arms if options.quick else None) or study.arms)
    if unknown := [arm for arm in arms if arm not in study.arms]:
        raise UserError(f"no arm is called {unknown[0]!r}. There are {', '.join(study.arms)}.")
    return arms


def _reproduce(options: argparse.Namespace) -> int:
    from loop.reproductions import report
    from loop.reproductions.registry import REPRODUCTIONS
    from loop.studies import harness

    if options.list:
        for name, build in REPRODUCTIONS.items():
            print(f"{name:<18} {build().paper}: {build().claim}")
        return 0
    if unknown := [name for name in options.names if name not in REPRODUCTIONS]:
        raise UserError(f"no reproduction is called {unknown[0]!r}. There are {', '.join(REPRODUCTIONS)}.")
    for name in options.names or REPRODUCTIONS:
        made = REPRODUCTIONS[name]()
        runs = _root(options) / "reproductions" / (name + "-quick" * options.quick)
        kept = options.out and options.out.resolve() / name
        out = (kept / "quick" if kept else runs / "tables") if options.quick else kept or REPORTS.resolve() / name
        seeds = options.seeds or ((0,) if options.quick else made.seeds)
        if not options.table:
            harness.run(made.study, _arms(options, made.study), seeds, runs, out, options.jobs, options.quick)
        print(report.write(made, out, _root(options) if options.mlflow else None, options.quick))
    if options.out or not options.quick:
        report.write_page((options.out or REPORTS).resolve(), options.page)
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    from loop.views.progress import LiveProgress

    try:
        from evals.worlds.arithmetic import card, pretrain
    except ImportError as error:
        raise UserError(f"pretrain needs torch and transformers ({error}). `ouroloop doctor` says how to install them.") from error
    out = options.out or Path(pretrain.__file__).parent
    for which in ("base", "teacher") if options.which == "both" else (options.which,):
        with LiveProgress() as progress:
            path = pretrain.pretrain(pretrain.CHECKPOINTS[which], out / which, partial(_tell, progress, "pretraining", which))
            card.write_card(path, partial(_tell, progress, "measuring", which))
        print(path / "README.md")
    return 0


def _tell(progress: Callable[[str, int, int, str], None], stage: str, which: str, done: int, total: int) -> None:
    progress(stage, done, total, which)


if __name__ == "__main__":
    raise SystemExit(main())
