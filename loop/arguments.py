"""What may be given on the command line: every command with its options.

Imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from ouroloop import __version__

Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, str], argparse.ArgumentParser]
"""add(name of a command, what it does) -> its parser."""
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


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The whole command line. commands: name -> what carries it out."""
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(
        prog="ouroloop",
        description=(
            "Rounds of draft, critique, revise, filter and SFT, steered before the model collapses."
        ),
        epilog=EPILOG,
        formatter_class=raw,
    )
    whole.add_argument("--version", action="version", version=f"ouroloop {__version__}")
    room = whole.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        sub = room.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=raw
        )
        sub.set_defaults(command=commands[name])
        sub.add_argument(
            "--runs",
            type=Path,
            default=None,
            metavar="DIR",
            help="folder of all runs (default: $OUROLOOP_RUNS or ./runs)",
        )
        return sub

    for group in (_of_runs, _of_traces_and_panels, _of_the_installation, _of_experiments):
        group(add)
    return whole


def _of_runs(add: Add) -> None:
    run = add("run", "start a run from a recipe")
    run.add_argument("recipe", type=Path, help="YAML file; see runs/recipes/")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a key, e.g. sampling.max_tokens=128",
    )
    run.add_argument("--fresh", action="store_true", help="delete a run of the same name first")
    run.add_argument(
        "--check",
        action="store_true",
        help="check the recipe and all that it names, print it resolved, make nothing",
    )
    resume = add("resume", "finish a run that was cut off")
    resume.add_argument("run", help="name or folder of the run")
    resume.add_argument(
        "--recipe", type=Path, help="refuse to go on unless this recipe is still the run's own"
    )
    watch = add("watch", "follow a run live from another terminal")
    watch.add_argument("run", help="name or folder of the run")
    report = add("report", "write one HTML page of a run, or of several side by side")
    report.add_argument(
        "run", nargs="+", help="names or folders of runs; the first is the one told about"
    )
    report.add_argument("--out", type=Path, help="default: report.html in the first run's folder")
    compare = add("compare", "put the rounds of several runs side by side")
    compare.add_argument("run", nargs="+", help="names or folders of runs")
    compare.add_argument("--json", action="store_true", help="for scripts")


def _of_traces_and_panels(add: Add) -> None:
    monitor = add(
        "monitor",
        "judge the rounds of any loop from its traces, one JSONL file per round; docs/traces.md is"
        " the format",
    )
    monitor.add_argument(
        "traces",
        nargs="*",
        type=Path,
        help="JSONL files in the order of the rounds; the first is the anchor",
    )
    monitor.add_argument(
        "--strategies",
        metavar="NAME",
        help=(
            "name strategies from the texts: operators (default without a `strategy` field), "
            "calculations, calculation_list, dataflow, plan, answer, or none"
        ),
    )
    monitor.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help=(
            "a field of the decision rule, e.g. accuracy_loss=0.02, alpha=0.1, main_family=algebra"
        ),
    )
    monitor.add_argument(
        "--plan-rounds",
        type=_positive,
        metavar="T",
        help="rounds planned in all (default: 20, or the number of files if more)",
    )
    monitor.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="at which the traces were sampled; trace entropy needs 1 (the default)",
    )
    monitor.add_argument(
        "--keep-order",
        action="store_true",
        help="the files are in order, whatever the numbers in their names say",
    )
    monitor.add_argument(
        "--baselines",
        nargs="+",
        type=int,
        default=[0],
        metavar="N",
        help=(
            "rounds, fixed in advance, that others are held against (default: 0; the loop itself"
            " holds them against 0 and 1, which sees losses of what round 1 gained)"
        ),
    )
    monitor.add_argument("--json", action="store_true", help="for scripts")
    monitor.add_argument(
        "--plan",
        nargs=2,
        type=_positive,
        metavar=("N", "K"),
        help=(
            "judge nothing: say which losses N problems with K samples "
            "each would show, on the first file's model or a typical one"
        ),
    )
    plan = add("plan", "say which losses a recipe's panel would show, and which not")
    plan.add_argument(
        "recipe",
        type=Path,
        help="YAML file; where its run has a round 0, that model is taken, else a typical one",
    )
    plan.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a key, e.g. probe.problems=500",
    )
    plan.add_argument("--json", action="store_true", help="for scripts")


def _of_the_installation(add: Add) -> None:
    sync = add("sync", "bring MLflow up to date with a run (again)")
    sync.add_argument("run", help="name or folder of the run")
    ui = add("ui", "open MLflow's pages on 127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    doctor = add("doctor", "say what is installed, what would break, and the command that mends it")
    doctor.add_argument("--json", action="store_true", help="for scripts")
    doctor.add_argument(
        "--deep", action="store_true", help="also import the heavy libraries (slower)"
    )


def _of_experiments(add: Add) -> None:
    study = add(
        "study",
        "run a study's arms over several seeds, or go on with it, and write what it found",
    )
    study.add_argument(
        "study",
        nargs="*",
        type=Path,
        metavar="STUDY",
        help="a folder with study.py or study.yaml, or such a file; --list names those that come"
        " with Ouroloop",
    )
    study.add_argument("--list", action="store_true", help="what there is; run nothing")
    study.add_argument(
        "--quick",
        action="store_true",
        help="smaller and one seed, in minutes; its results stay in the folder of the runs",
    )
    study.add_argument("--arms", nargs="+", metavar="ARM", help="default: those of the full run")
    study.add_argument("--seeds", nargs="+", type=int, metavar="N", help="default: the study's own")
    study.add_argument("--jobs", type=_positive, default=1, help="runs at a time, one core each")
    study.add_argument(
        "--out", type=Path, help="folder of results, page and figure (default: the study's own)"
    )
    study.add_argument(
        "--table", action="store_true", help="run nothing; write the page of what is finished"
    )
    study.add_argument(
        "--no-mlflow", dest="mlflow", action="store_false", help="no MLflow run per arm"
    )
    pretrain = add("pretrain", "rebuild a world's small checkpoints")
    pretrain.add_argument("world", choices=["arithmetic"])
    pretrain.add_argument("--which", choices=["base", "teacher", "both"], default="both")
    pretrain.add_argument(
        "--out", type=Path, help="folder for the checkpoints (default: where the built-in ones lie)"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a whole number of at least 1")
    return int(text)
