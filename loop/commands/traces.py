"""Judge the rounds of anybody's loop, and say what a probe set can show."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ouroloop.loop.commands.shared import (
    RECIPE,
    Add,
    add_overrides,
    finite,
    naming,
    not_negative,
    positive,
    print_result,
    rate,
    recipe_of,
    refuse_unused,
    root_of,
    run_path,
)
from ouroloop.loop.errors import UserError
from ouroloop.loop.extras import require
from ouroloop.loop.folder.storage import writing

if TYPE_CHECKING:
    from ouroloop.loop.views.power import PowerAnalysis


def add_commands(add: Add) -> None:
    """`monitor` and `plan`."""
    _of_monitor(add)
    _of_power(add)


def _of_monitor(add: Add) -> None:
    monitor = add(
        "monitor",
        "judge the rounds of any loop from its traces: one file per round, or one table of all"
        " rounds; docs/traces.md is the format",
        _monitor,
    )
    monitor.add_argument(
        "traces",
        nargs="*",
        type=Path,
        help=(
            "JSONL, JSON, CSV, TSV or Parquet files in the order of the rounds, the baseline round"
            " first; or one file with a column `round`"
        ),
    )
    monitor.add_argument("--json", action="store_true", help="for scripts")
    monitor.add_argument(
        "--html", type=Path, metavar="FILE", help="write the rounds as one HTML page, too"
    )
    monitor.add_argument(
        "--plan",
        nargs=2,
        type=positive,
        metavar=("N", "K"),
        help=(
            "judge nothing; power analysis of a probe set of N problems with K samples each, from"
            " the first file's samples, with as many in the baseline, or a typical model"
        ),
    )
    _of_reading(monitor.add_argument_group("how the files are read"))
    _of_the_rule(monitor.add_argument_group("how the rounds are judged"))


def _of_power(add: Add) -> None:
    plan = add(
        "plan", "power analysis: which losses a recipe's probe set would show, and which not", _plan
    )
    plan.add_argument(
        "recipe",
        type=Path,
        help=f"{RECIPE}; where its run has a round 0, that model is taken, else a typical one",
    )
    add_overrides(plan, "probe.problems=500")
    plan.add_argument("--json", action="store_true", help="for scripts")
    _of_hardware(plan.add_argument_group("what it takes, in the place of the power analysis"))


def _of_hardware(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--hardware",
        metavar="NAME",
        help=(
            "tokens by purpose, memory, time and disk on this: 8xH100, 1x24GB, cpu, ...;"
            " docs/scale.md has the arithmetic"
        ),
    )
    group.add_argument(
        "--from",
        dest="measured",
        metavar="RUN",
        help=(
            "a run, or a file of --json, whose rates and lengths are taken; default: the recipe's"
            " own run where it has one"
        ),
    )
    group.add_argument(
        "--model-config",
        type=Path,
        metavar="FILE",
        help="a config.json in the place of the recipe's model, which need not be here",
    )
    for name, what in (
        ("--sampling-rate", "tokens a second that one engine samples"),
        ("--training-rate", "tokens a second that training learns"),
        ("--draft-tokens", "mean length of a draft and of a probe answer"),
    ):
        group.add_argument(name, type=rate, metavar="X", help=what)


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
        type=not_negative,
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
        type=finite,
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
        type=positive,
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
            "baseline rounds, fixed in advance, that later rounds are compared with, by a table's"
            " own numbers where it has some, 0 being the first (default: 0;"
            " the loop itself compares with 0 and 1, which shows the loss of what round 1 gained)"
        ),
    )


def _monitor(options: argparse.Namespace) -> int:
    if options.framework is None:
        of_framework = {"--reward": options.reward, "--pass-mark": options.pass_mark}
        refuse_unused("monitor", of_framework, "--from")
    if options.plan:
        return _monitor_plan(options)
    if not options.traces:
        raise UserError(
            "monitor: no traces; expected one file per round, the baseline round first, or one with"
            " a column `round`."
            " docs/traces.md says what is in them."
        )
    # Below every check of the command line: these bring numpy and scipy, which take a second.
    from ouroloop.loop.traces.scoring import Scoring
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

        # The page first: where it cannot be written, no verdict on the terminal hides the error.
        require("report", "ouroloop monitor --html")
        with writing(options.html, "monitor --html"):
            write_trace_page(watched, options.html.stem, options.html)
    print_result(options.json, lambda: monitor.to_json(watched), lambda: monitor.text(watched))
    return watched.exit_code


def _monitor_plan(options: argparse.Namespace) -> int:
    """Power analysis of a probe set that is only two numbers, N problems with K samples."""
    from ouroloop.loop.views import monitor, power
    from ouroloop.monitors.traces.rows import TraceError

    rounds = options.plan_rounds or max(monitor.HORIZON, len(options.traces))
    rule = monitor.rule_of(options.settings, rounds)
    num_problems, num_samples = options.plan
    # The first file alone: a plan is made before the loop runs, and knows no more than its
    # baseline.
    try:
        analysis = power.of_traces(
            rule, num_problems, num_samples, options.traces[:1], options.strategies
        )
    except (TraceError, ValueError) as error:
        raise UserError(str(error)) from error
    return _print_power(options, analysis)


def _plan(options: argparse.Namespace) -> int:
    if options.hardware is not None:
        return _plan_hardware(options)
    of_hardware = {
        "--from": options.measured,
        "--model-config": options.model_config,
        "--sampling-rate": options.sampling_rate,
        "--training-rate": options.training_rate,
        "--draft-tokens": options.draft_tokens,
    }
    refuse_unused("plan", of_hardware, "--hardware")
    from ouroloop.evals.tasks import Capability
    from ouroloop.loop.setup import prepare
    from ouroloop.loop.stages import further, traces
    from ouroloop.loop.stages.decide import decision_rule
    from ouroloop.loop.views import power
    from ouroloop.monitors.decision.guarded import QuantityId

    recipe = recipe_of(options.recipe, options.overrides)
    with naming(options.recipe):
        setting = prepare(recipe)
    probe_set = setting.probe_set
    unaided = Capability.UNAIDED in setting.task.capabilities
    # Tests and judges need no gold answer; of the others a problem without one is never scored, so
    # that it adds nothing to the power of a scored quantity.
    scored = [p for p in probe_set.problems if unaided or p.answer is not None]
    about = partial(
        power.of_recipe,
        decision_rule(recipe, probe_set.main),
        families=[problem.family for problem in scored],
        num_free=len(probe_set.problems) - len(scored),
        gold=recipe.monitors.gold,
        main_family=probe_set.main,
        num_baseline_samples=recipe.probe.num_baseline_samples,
        run_path=root_of(options) / recipe.name,
    )
    notes = traces.costs(recipe.probe, len(probe_set.problems))
    if recipe.probe.draws > 1:
        most = recipe.probe.draws * recipe.probe.samples
        first = QuantityId.ACCURACY if scored and recipe.monitors.gold else QuantityId.CANNED
        with_all = about(num_samples=most, only=(first,)).powers
        notes += further.promised(recipe, power.at_once(with_all))
    return _print_power(options, about(num_samples=recipe.probe.samples, notes=notes))


def _plan_hardware(options: argparse.Namespace) -> int:
    """What a recipe takes on some hardware; nothing is simulated and no engine is asked."""
    from ouroloop.loop.capacity import hardware, plan
    from ouroloop.loop.capacity.measured import Measured, from_file, from_run
    from ouroloop.loop.views import capacity
    from ouroloop.loop.views.reader import read_run

    there = hardware.parse(options.hardware)
    recipe = recipe_of(options.recipe, options.overrides)
    own, given = root_of(options) / recipe.name, options.measured
    measured = Measured()
    if given is not None and Path(given).is_file():
        measured = from_file(Path(given))
    elif given is not None:
        measured = from_run(read_run(run_path(options, given)))
    elif (own / "rounds" / "001" / "MANIFEST.json").is_file():
        measured = from_run(read_run(own))
    measured = measured.but(
        sampling_rate=options.sampling_rate,
        training_rate=options.training_rate,
        draft_tokens=options.draft_tokens,
        probe_tokens=options.draft_tokens,
    )
    found = plan.capacity(recipe, there, measured, options.model_config)
    print_result(options.json, lambda: plan.to_json(found), lambda: capacity.text(found))
    return 0


def _print_power(options: argparse.Namespace, analysis: PowerAnalysis) -> int:
    from ouroloop.loop.views import power

    print_result(options.json, lambda: power.to_json(analysis), lambda: power.text(analysis))
    return 0
