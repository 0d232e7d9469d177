"""Studies, benchmarks and the small worlds."""

from __future__ import annotations

import argparse
from pathlib import Path

from ouroloop.loop.commands.shared import (
    Add,
    positive,
    root_of,
)
from ouroloop.loop.extras import require


def add_commands(add: Add) -> None:
    """The commands of this file, with their options."""
    study = add(
        "study",
        "run a study's arms over several seeds, or go on with it, and write what it found",
        _study,
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
    study.add_argument("--jobs", type=positive, default=1, help="runs at a time, one core each")
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
        add(
            "bench",
            "compare detectors of collapse on many runs; docs/alarms.md describes it",
            _bench,
        )
    )
    pretrain = add("pretrain", "rebuild a world's small checkpoints", _pretrain)
    pretrain.add_argument("world", choices=["arithmetic"])
    pretrain.add_argument("--which", choices=["base", "teacher", "both"], default="both")
    pretrain.add_argument(
        "--out", type=Path, help="folder for the checkpoints (default: where the built-in ones lie)"
    )


def _of_the_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("what", choices=["alarms"], help="alarms under a locked budget")
    # The keys of SIZES in monitors/bench/alarms/simulation.py, spelt out: `--help` must not wait
    # for numpy.
    bench.add_argument("--size", choices=["120x8", "500x16"], default="120x8")
    bench.add_argument(
        "--seeds",
        type=positive,
        default=4,
        metavar="N",
        help="simulated runs of each regime in each world (default: 4, 720 runs)",
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
    bench.add_argument("--jobs", type=positive, default=1, help="processes, one core each")


def _study(options: argparse.Namespace) -> int:
    from ouroloop.loop.experiments import command

    return command.study(options, root_of(options))


def _bench(options: argparse.Namespace) -> int:
    from ouroloop.loop.alarms import command

    return command.alarms(options)


def _pretrain(options: argparse.Namespace) -> int:
    require("run", "ouroloop pretrain")
    from ouroloop.loop.starting import worlds

    return worlds.pretrain(options.which, options.out)
