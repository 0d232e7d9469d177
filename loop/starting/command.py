"""`ouroloop init`: write a first recipe, once it is known to be a good one."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import yaml

from ouroloop.loop.checks import Level, data, lengths
from ouroloop.loop.devices import this_device
from ouroloop.loop.engines.checkpoint import check_checkpoint, has_chat_template
from ouroloop.loop.errors import DataError, UserError
from ouroloop.loop.models.shape import read_shape
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.starting.settings import choose
from ouroloop.loop.starting.survey import Source, Survey, look
from ouroloop.loop.starting.writing import recipe_text

COLUMNS = ("question", "answer", "solution", "messages")


def init(options: Namespace) -> int:
    """Carry the command out; returns the exit code.

    Raises:
        UserError: the recipe exists, or the model or the data cannot be used; nothing is written.
    """
    name = options.name.removesuffix(".yaml")
    path = Path(f"{name}.yaml")
    if path.exists():
        raise UserError(f"init: {path} exists and is left as it is. Give another name, or move it.")
    # Resolved as the recipe's own keys will be: relative to this folder, where the recipe will lie.
    base = resolve({"name": name, "model": options.model}, base=Path.cwd())
    checkpoint = check_checkpoint(resolve_model(base.model))
    given = {name: value for name in COLUMNS if (value := getattr(options, name)) is not None}
    source = _source(options)
    survey = look(source, given, checkpoint.path)
    text = recipe_text(
        name=name,
        model=options.model,
        source=source,
        survey=survey,
        settings=choose(
            survey,
            checkpoint.weight_bytes,
            this_device().is_gpu,
            read_shape(checkpoint).positions,
        ),
        chat=has_chat_template(checkpoint),
    )
    # What would be refused later is refused now, before a file is left behind.
    setting = prepare(resolve(yaml.safe_load(text), where=str(path), base=Path.cwd()))
    for finding in [*data.check(setting, path), *lengths.check(setting, path)]:
        if finding.level is Level.ERROR:
            raise DataError(f"init: {options.data}: {finding.about}: {finding.what}")
    path.write_text(text, encoding="utf-8")
    print(_report(path, survey))
    return 0


def _source(options: Namespace) -> Source:
    """The data as keys of a recipe's task."""
    given = {
        "path": options.data,
        "name": options.config,
        "split": options.split,
        "heldout_split": options.heldout_split,
    }
    return {key: value for key, value in given.items() if value is not None}


def _report(path: Path, survey: Survey) -> str:
    """What was seen, and the next three commands."""
    columns = ", ".join(f"{name} = {column}" for name, column in survey.columns.items())
    repeated = ""
    if survey.num_repeated:
        repeated = (
            f" {survey.num_repeated:,} rows ask what an earlier one asks, and are left out"
            " (several solutions of one question: warm_start.path)."
        )
    return "\n".join(
        [
            f"{path}: {survey.num_problems:,} problems ({columns}), {survey.num_train:,} to train"
            f" on and {survey.num_heldout:,} held out; {survey.num_answers:,} with a gold answer,"
            f" {survey.num_solutions:,} with a solution; grader {survey.grader}." + repeated,
            "",
            f"  ouroloop run {path} --check",
            f"  ouroloop run {path}",
            f"  ouroloop report {path.stem}",
        ]
    )
