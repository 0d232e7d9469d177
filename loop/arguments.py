"""What may be given on the command line: every command with its options.

Imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from ouroloop import __version__

Command = Callable[[argparse.Namespace], int]
# add(name of a command, what it does) -> its parser.
Add = Callable[[str, str], argparse.ArgumentParser]
RECIPE = "YAML file, or the name of a recipe that comes with Ouroloop, e.g. demo"
EPILOG = """\
examples:
  ouroloop run demo                                    a guarded run on the embedded small model
  ouroloop init mine --model ./model --data p.jsonl    a recipe for your own model and data
  ouroloop run mine.yaml --check                       what can be known of it before it runs
  ouroloop run demo --set rounds=3 --set name=short    the same with two keys changed
  ouroloop explain demo --round 2                      why it was decided so, with the numbers
  ouroloop show demo --round 2 --rejected steps        samples of a round, and what became of them
  ouroloop report demo unguarded                       two arms side by side in one HTML page
  ouroloop ui                                          MLflow on 127.0.0.1
  ouroloop monitor round0.jsonl round1.jsonl           the rounds of any loop, from their traces

exit codes:
  0 finished; 1 a bug or a failed engine; 2 wrong input (nothing was made); 3 halted by a monitor

Runs lie in ./runs, or in the folder that $OUROLOOP_RUNS or --runs names.
"""

EXPLAIN = """\
what it prints:
  why              the decision's own sentences
  evidence         of both tiers against their limits, and the quantity that drives it
  quantities       then, now, change and interval, tolerance, room left (0 = at the tolerance)
  done next        what the next round's plan changed
  did it help      what a later round's audit found about the quantity that spoke

example:
  ouroloop explain demo --round 2
"""
SHOW = """\
Without a choice: counts by reason and by strategy. Choices combine. Model text stands behind a bar.

examples:
  ouroloop show demo --round 7                         what there is to choose from
  ouroloop show demo --round 7 --problem 5f0f9b        draft, critique, revision, verdict, probe
  ouroloop show demo --round 7 --strategy column       the samples of one strategy
  ouroloop show demo --round 7 --rejected steps        what a filter rejected, and the texts
"""


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The whole command line. commands: name -> what carries it out."""
    # Raw: the examples and exit codes keep their lines.
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
    commands_of = whole.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands_of.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=raw
        )
        sub.set_defaults(command=commands[name])
        # An option of every command, not of the program: it may stand after the command.
        sub.add_argument(
            "--runs",
            type=Path,
            default=None,
            metavar="DIR",
            help="folder of all runs (default: $OUROLOOP_RUNS or ./runs)",
        )
        return sub

    # In the order of `--help`: what is used most comes first.
    for group in (
        _of_runs,
        _of_views,
        _of_traces,
        _of_power,
        _of_the_installation,
        _of_experiments,
    ):
        group(add)
    return whole


# --- runs of the loop ---


def _of_runs(add: Add) -> None:
    run = add("run", "start a run from a recipe")
    run.add_argument("recipe", type=Path, help=RECIPE)
    _add_overrides(run, "sampling.max_tokens=128")
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
    init = add("init", "write a commented recipe for your own model and data")
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
    add("schema", "print the JSON schema of a recipe: every key, what it means, its default")
    resume = add("resume", "finish a run that was cut off")
    resume.add_argument("run", help="name or folder of the run")
    resume.add_argument(
        "--recipe", type=Path, help="refuse to go on unless this recipe is still the run's own"
    )


# --- looking at runs ---


def _of_views(add: Add) -> None:
    watch = add("watch", "follow a run live from another terminal")
    watch.add_argument("run", help="name or folder of the run")
    _of_asking(add)
    report = add("report", "write one HTML page of a run, or of several side by side")
    report.add_argument(
        "run", nargs="+", help="names or folders of runs; the page is written to the first"
    )
    report.add_argument("--out", type=Path, help="default: report.html in the first run's folder")
    compare = add(
        "compare", "put the rounds of several runs side by side; of several seeds, their means"
    )
    compare.add_argument("run", nargs="+", help="names or folders of runs")
    compare.add_argument("--json", action="store_true", help="for scripts")
    compare.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write every measure of every round to a .csv or .parquet file, a row each",
    )
    publish = add("publish", "make a model card of a run, and send a checkpoint to a hub")
    publish.add_argument("run", help="name or folder of the run")
    publish.add_argument("--round", type=int, metavar="N", help="default: the best round")
    publish.add_argument("--to", metavar="ORG/NAME", help="where; without it the card is printed")
    publish.add_argument("--private", action="store_true", help="for you alone")
    publish.add_argument("--dry-run", action="store_true", help="list what would be sent")
    verify = add("verify", "compare every file of a run with what was written (exit 2: damage)")
    verify.add_argument("run", help="name or folder of the run")


def _of_asking(add: Add) -> None:
    explain = add("explain", "say why a round was decided as it was, in words and numbers")
    explain.epilog = EXPLAIN
    show = add("show", "show a problem's way through a round, or the samples of one kind")
    show.epilog = SHOW
    for command in (explain, show):
        command.add_argument("run", help="name or folder of the run")
        command.add_argument(
            "--round", type=_round, metavar="N", help="its number (default: the last finished one)"
        )
    show.add_argument("--problem", metavar="ID", help="its id, or a part that no other id has")
    show.add_argument("--strategy", metavar="NAME", help="a strategy's or response cluster's name")
    show.add_argument("--rejected", metavar="REASON", help="what a rejection filter is called")
    show.add_argument(
        "--limit", type=_positive, default=5, metavar="N", help="samples shown whole (default: 5)"
    )


# --- anybody's traces ---


def _of_traces(add: Add) -> None:
    monitor = add(
        "monitor",
        "judge the rounds of any loop from its traces, one JSONL file per round; docs/traces.md is"
        " the format",
    )
    monitor.add_argument(
        "traces",
        nargs="*",
        type=Path,
        help="JSONL files in the order of the rounds; the first is the baseline round",
    )
    monitor.add_argument("--json", action="store_true", help="for scripts")
    monitor.add_argument(
        "--html", type=Path, metavar="FILE", help="write the rounds as one HTML page, too"
    )
    monitor.add_argument(
        "--plan",
        nargs=2,
        type=_positive,
        metavar=("N", "K"),
        help=(
            "judge nothing; power analysis of a probe set of N problems with K samples each, from"
            " the first file's samples or a typical model"
        ),
    )
    _of_reading(monitor.add_argument_group("how the files are read"))
    _of_the_rule(monitor.add_argument_group("how the rounds are judged"))


def _of_reading(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--strategies",
        metavar="NAME",
        help=(
            "name strategies from the texts: operators (default without a `strategy` field), "
            "calculations, calculation_list, dataflow, plan, answer, templates (fitted on the first"
            " file), or none"
        ),
    )
    group.add_argument(
        "--clusters",
        metavar="ENCODER",
        help=(
            "fit response clusters on the first file's texts: lexical (default where nobody"
            " scored a problem), all-minilm-l6-v2, a sentence encoder's folder, or none"
        ),
    )
    group.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="at which the traces were sampled; trace entropy needs 1 (the default)",
    )
    group.add_argument(
        "--keep-order",
        action="store_true",
        help="the files are in order, whatever the numbers in their names say",
    )
    group.add_argument(
        "--from",
        dest="framework",
        metavar="FRAMEWORK",
        help=(
            "what wrote them, where they are not in our format: trl, ms-swift, verl, openrlhf,"
            " nemo-rl, lm-eval or inspect; folders are searched, rounds are the steps"
        ),
    )
    group.add_argument(
        "--reward",
        metavar="COLUMN",
        help="with --from: the reward that says whether a sample is right, where there are several",
    )
    group.add_argument(
        "--pass-mark",
        type=float,
        default=1.0,
        metavar="X",
        help="with --from: a sample is right whose reward is at least this (default: 1)",
    )


def _of_the_rule(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help=(
            "a field of the decision rule, e.g. accuracy_loss=0.02, alpha=0.1, main_family=algebra"
        ),
    )
    group.add_argument(
        "--plan-rounds",
        type=_positive,
        metavar="T",
        help="rounds planned in all (default: 20, or the number of files if more)",
    )
    group.add_argument(
        "--baselines",
        nargs="+",
        type=int,
        default=[0],
        metavar="N",
        help=(
            "baseline rounds, fixed in advance, that later rounds are compared with (default: 0;"
            " the loop itself compares with 0 and 1, which shows the loss of what round 1 gained)"
        ),
    )


def _of_power(add: Add) -> None:
    plan = add(
        "plan", "power analysis: which losses a recipe's probe set would show, and which not"
    )
    plan.add_argument(
        "recipe",
        type=Path,
        help=f"{RECIPE}; where its run has a round 0, that model is taken, else a typical one",
    )
    _add_overrides(plan, "probe.problems=500")
    plan.add_argument("--json", action="store_true", help="for scripts")


# --- what is installed, and where runs are shown ---


def _of_the_installation(add: Add) -> None:
    sync = add("sync", "bring MLflow and other trackers up to date with a run (again)")
    sync.add_argument("run", help="name or folder of the run")
    ui = add("ui", "open MLflow's pages on 127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    doctor = add(
        "doctor", "say what is installed, what would break, and the command that repairs it"
    )
    doctor.add_argument("--json", action="store_true", help="for scripts")
    doctor.add_argument(
        "--deep", action="store_true", help="also import the heavy libraries (slower)"
    )


# --- studies and worlds ---


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
    _of_the_bench(
        add("bench", "compare detectors of collapse on many runs; docs/alarms.md describes it")
    )
    pretrain = add("pretrain", "rebuild a world's small checkpoints")
    pretrain.add_argument("world", choices=["arithmetic"])
    pretrain.add_argument("--which", choices=["base", "teacher", "both"], default="both")
    pretrain.add_argument(
        "--out", type=Path, help="folder for the checkpoints (default: where the built-in ones lie)"
    )


def _of_the_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("what", choices=["alarms"], help="alarms under a locked budget")
    bench.add_argument("--size", choices=["120x8", "500x16"], default="120x8")
    bench.add_argument(
        "--seeds",
        type=_positive,
        default=4,
        metavar="N",
        help="simulated runs of each regime in each world (default: 4, 680 runs)",
    )
    bench.add_argument(
        "--no-simulation",
        action="store_true",
        help="real runs only; thresholds then stay uncalibrated",
    )
    bench.add_argument(
        "--healthy",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="names of runs in --runs that are healthy by their design, e.g. 'fixed_30*'",
    )
    bench.add_argument("--only", nargs="+", metavar="NAME", help="of the built-in detectors")
    bench.add_argument(
        "--add",
        nargs="+",
        default=[],
        metavar="MODULE:NAME",
        help="detectors of your own; also path/to/file.py:NAME",
    )
    bench.add_argument(
        "--data", type=Path, help="folder of the traces (default: in the cache, see docs/alarms.md)"
    )
    bench.add_argument("--out", type=Path, help="folder of the table (default: that of the traces)")
    bench.add_argument("--jobs", type=_positive, default=1, help="processes, one core each")


def _add_overrides(command: argparse.ArgumentParser, example: str) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=f"change a key, e.g. {example}",
    )


def _round(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a round's number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a whole number of at least 1")
    return int(text)
