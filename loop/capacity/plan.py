"""From a recipe and some hardware to tokens, memory, time and disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ouroloop.evals.errors import DataError as TaskDataError
from ouroloop.evals.registry import build_task
from ouroloop.evals.tasks import Capability
from ouroloop.loop.capacity.estimate import Rates, rates_of
from ouroloop.loop.capacity.hardware import Hardware
from ouroloop.loop.capacity.measured import Measured
from ouroloop.loop.capacity.memory import Memory, checkpoint_bytes, memory_of
from ouroloop.loop.capacity.tokens import Panel, Tokens, tokens_of, trained_tokens
from ouroloop.loop.config import Recipe
from ouroloop.loop.costs import Purpose, sampled, watched_share
from ouroloop.loop.devices import Device, FloatType, this_device
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.folder.retention import AUTO_LAST, SMALL_BYTES
from ouroloop.loop.models.shape import Shape, read_shape
from ouroloop.loop.models.shape_of_config import read_config
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.objectives import launcher
from ouroloop.loop.recipes import automatic
from ouroloop.loop.stages.constitution import load_constitution
from ouroloop.loop.stages.probe import choose_probe_set

# Bytes of tables, samples and logs per sampled token, where no run says: two runs of the demo left
# 11.9 and 13.1.
BYTES_PER_TOKEN = 13.0


@dataclass(frozen=True)
class Need:
    """Tokens of a round, and its seconds; None where a rate is not known."""

    tokens: Tokens
    trained: float
    seconds: float | None

    @property
    def sampled(self) -> float:
        """All that is sampled."""
        return sampled(self.tokens)

    @property
    def watched(self) -> float:
        """Share of it that only watches."""
        return watched_share(self.tokens)


@dataclass(frozen=True)
class Capacity:
    """What a run of the recipe takes.

    Attributes:
        recipe: without `auto`.
        hardware: where.
        shape: of the model.
        measured: what lengths, shares and overheads rest on.
        rates: all devices together; None where they are not known.
        source: of the rates.
        rounds: by number.
        memory: of every device.
        checkpoint: bytes.
        num_checkpoints: kept at most.
        disk: bytes at the end.
        notes: what is a bound, or could not be looked at.
    """

    recipe: Recipe
    hardware: Hardware
    shape: Shape
    measured: Measured
    rates: Rates | None
    source: str
    rounds: tuple[Need, ...]
    memory: Memory
    checkpoint: int
    num_checkpoints: int
    disk: float
    notes: tuple[str, ...]

    @property
    def run(self) -> Need:
        """All rounds."""
        tokens = {p: sum(need.tokens[p] for need in self.rounds) for p in Purpose}
        seconds = [need.seconds for need in self.rounds]
        known = [each for each in seconds if each is not None]
        total = None
        if len(known) == len(seconds):
            total = sum(known) + (self.measured.start_seconds or 0.0)
        return Need(tokens, sum(need.trained for need in self.rounds), total)

    @property
    def fits(self) -> bool | None:
        """Whether the fullest moment fits on a device; None on a CPU."""
        if self.hardware.memory is None:
            return None
        return self.memory.most <= self.hardware.memory


def capacity(
    recipe: Recipe, hardware: Hardware, measured: Measured, config: Path | None = None
) -> Capacity:
    """Plan.

    Args:
        recipe: as it was written.
        hardware: where it is to run.
        measured: what an earlier run showed, and what was given.
        config: a config.json in the place of the recipe's model.

    Raises:
        UserError: the model, or its config, cannot be read.
    """
    recipe, shape = _sized(recipe, hardware, config)
    panel, notes = panel_of(recipe)
    memory = memory_of(recipe, shape, hardware)
    rates, source = _rates(recipe, shape, hardware, memory, measured)
    rounds = []
    for number in range(recipe.rounds + 1):
        tokens = tokens_of(recipe, panel, measured, number)
        trained = trained_tokens(recipe, measured) if number else 0.0
        rounds.append(Need(tokens, trained, _seconds(tokens, trained, rates, measured)))
    size = checkpoint_bytes(recipe, shape)
    num = _num_checkpoints(recipe, size)
    total = sum(need.sampled for need in rounds)
    tables = total * (measured.bytes_per_token or BYTES_PER_TOKEN)
    return Capacity(
        recipe,
        hardware,
        shape,
        measured,
        rates,
        source,
        tuple(rounds),
        memory,
        size,
        num,
        num * size + tables,
        tuple(notes) + tuple(_bounds(recipe, hardware, memory, measured)),
    )


def _sized(recipe: Recipe, hardware: Hardware, config: Path | None) -> tuple[Recipe, Shape]:
    """The recipe without `auto` for this hardware, and the model's shape."""
    # Every GPU of the table is fast in bfloat16; processors differ, so this machine's speaks.
    device = Device(True, FloatType.BFLOAT16, "") if hardware.is_gpu else this_device()
    if config is None:
        base = check_checkpoint(resolve_model(recipe.model))
        return automatic.choose(recipe, base, device).recipe, read_shape(base)
    shape = read_config(config)
    return automatic.sized(recipe, shape.num_parameters, device), shape


def panel_of(recipe: Recipe) -> tuple[Panel, list[str]]:
    """The probe set's numbers; the recipe's own where the task's files are not here."""
    judge, num_criteria = recipe.judge, 0
    if judge is not None and not judge.scorers:
        path = judge.principles or recipe.refine.constitution
        num_criteria = len(judge.criteria) or len(load_constitution(path) if path else ())
    try:
        task = build_task(recipe.task.kind, recipe.task.settings())
        probe_set = choose_probe_set(task, recipe.probe)
    except TaskDataError:
        num = recipe.probe.problems
        note = "the task's files are not here: a probe set of one family is counted"
        return Panel(num, num, num, num_criteria), [note]
    problems = probe_set.problems
    judged = [p for p in problems if judge and (p.family in judge.families or not judge.families)]
    num_main = sum(p.family == probe_set.main for p in problems)
    when = recipe.monitors.clusters.when
    scored = Capability.UNAIDED in task.capabilities or all(p.answer is not None for p in problems)
    fits = when == "always" or (when == "unscored" and not (scored and recipe.monitors.gold))
    return Panel(num_main, len(problems), len(judged), num_criteria, fits), []


def _rates(
    recipe: Recipe, shape: Shape, hardware: Hardware, memory: Memory, measured: Measured
) -> tuple[Rates | None, str]:
    if measured.sampling_rate and measured.training_rate:
        # A text that is only read costs a third of one that is learnt.
        scoring = measured.scoring_rate or 3 * measured.training_rate
        # What was measured is one engine's rate.
        sampling = memory.num_engines * measured.sampling_rate
        return Rates(sampling, scoring, measured.training_rate), "measured or given"
    found = rates_of(recipe, shape, hardware, memory)
    if found is None:
        return None, "not known: give --sampling-rate and --training-rate, or --from a run"
    return found, "an estimate by the data sheet; nothing was measured"


def _seconds(
    tokens: Tokens, trained: float, rates: Rates | None, measured: Measured
) -> float | None:
    if rates is None:
        return None
    seconds = sampled(tokens) / rates.sampling + tokens[Purpose.SCORED] / rates.scoring
    if not trained:
        # Round 0 starts nothing: the first load is counted with the run.
        return seconds
    return seconds + trained / rates.training + (measured.overhead_seconds or 0.0)


def _num_checkpoints(recipe: Recipe, size: int) -> int:
    """How many are there at once, by the recipe's `keep`: at most, and while one is being made."""
    keep = recipe.keep
    if keep.last == "all" or (keep.last == "auto" and size < SMALL_BYTES):
        return recipe.rounds
    last = AUTO_LAST if isinstance(keep.last, str) else keep.last
    baselines = sum(0 < number <= recipe.rounds for number in recipe.monitors.baselines)
    return min(recipe.rounds, keep.best + max(1, last) + baselines * keep.baseline + 1)


def _bounds(recipe: Recipe, hardware: Hardware, memory: Memory, measured: Measured) -> list[str]:
    notes = []
    if measured.draft_tokens is None:
        notes.append(
            "no length was measured: every text is counted as long as it may get, every draft as"
            " criticised, revised and kept, so tokens and time are upper bounds"
        )
    if measured.overhead_seconds is None:
        notes.append("starting processes, loading weights, readings: their time was not measured")
    if recipe.launcher == "accelerate" and launcher.shards(recipe.accelerate_config) is None:
        notes.append(
            "accelerate_config is not set: counted as sharded, which accelerate's own default is"
            " not; set several_gpus, deepspeed_zero3 or several_nodes"
        )
    if memory.num_engines > 1 and recipe.engine.kind != "ray":
        notes.append(
            f"{memory.num_engines} engines are counted, which needs engine.kind: ray; with"
            f" {recipe.engine.kind} one samples"
        )
    if hardware.num_devices > 1 and recipe.launcher != "accelerate":
        notes.append("training is counted on one device; `launcher: accelerate` spreads it")
    return notes


def to_json(found: Capacity) -> dict[str, Any]:
    """As plain JSON; its `measured` is a calibration file."""
    return {
        "recipe": found.recipe.name,
        "hardware": found.hardware.name,
        "parameters": found.shape.num_parameters,
        "measured": found.measured.to_json(),
        "rates": None if found.rates is None else found.rates._asdict(),
        "rates_are": found.source,
        "rounds": [_need(need) for need in found.rounds],
        "run": _need(found.run),
        "memory": asdict(found.memory),
        "device_bytes": found.hardware.memory,
        "fits": found.fits,
        "checkpoint_bytes": found.checkpoint,
        "num_checkpoints": found.num_checkpoints,
        "disk_bytes": found.disk,
        "notes": list(found.notes),
    }


def _need(need: Need) -> dict[str, Any]:
    tokens = {str(purpose): count for purpose, count in need.tokens.items()}
    return {
        "tokens": tokens,
        "sampled": need.sampled,
        "watched": need.watched,
        "trained": need.trained,
        "seconds": need.seconds,
    }
