"""The model compared with the recipe and the machine, from its small files alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ouroloop.loop.checks import memory, turns
from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.config import Recipe
from ouroloop.loop.devices import BFLOAT16_FLAGS, FloatType, this_device
from ouroloop.loop.engines.checkpoint import check_checkpoint, has_chat_template
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.models.shape import OUTSIDE_LAYERS, Shape, read_shape
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.warm_start import trainings

# Sizes of a head that vLLM's CPU build computes with.
# Source: vllm 0.31, v1/attention/backends/cpu_attn.py, get_supported_head_sizes.
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
LOCAL_ENGINES = ("vllm", "transformers", "ray")


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """The findings on the model, its context, what the engine needs of it, memory and types."""
    names = {setting.base: setting.recipe.model}
    for name, teacher in zip(setting.recipe.teachers, setting.teachers, strict=True):
        if isinstance(teacher, Path):
            names.setdefault(teacher, name)
    shapes = {name: read_shape(check_checkpoint(path)) for path, name in names.items()}
    return [
        _model(setting, shapes[setting.recipe.model]),
        *_contexts(setting, shapes),
        *_engine(setting, shapes),
        *_adapter(setting.recipe, shapes[setting.recipe.model]),
        *memory.check(setting.recipe, list(shapes.values())),
        *_types(setting),
        *turns.check(setting),
    ]


def refuse(setting: Setting) -> None:
    """Refuse to start what cannot work.

    Raises:
        RecipeError: with the sentence of the first error.
    """
    for finding in check(setting, Path()):
        if finding.level is Level.ERROR:
            raise RecipeError(finding.what)


def _model(setting: Setting, shape: Shape) -> Finding:
    template = "no chat template: prompts are plain text"
    if has_chat_template(check_checkpoint(setting.base)):
        template = "chat template in use"
        if not setting.prompts.chat:
            template = "chat template not in use (prompts.chat is false)"
    what = (
        f"{setting.recipe.model}: {shape.architecture}, {shape.num_parameters / 1e6:,.1f} M"
        f" parameters in {shape.stored}, {template}; {setting.base}"
    )
    return Finding(Level.OK, "model", what)


def _contexts(setting: Setting, shapes: dict[str, Shape]) -> Iterator[Finding]:
    """Positions and vocabulary; one line where all is well."""
    asked = setting.recipe.engine.max_model_len
    wrong = False
    for name, shape in shapes.items():
        if shape.positions is not None and asked > shape.positions:
            wrong = True
            what = (
                f"engine.max_model_len is {asked:,}, but {name} has {shape.positions:,} positions."
                f" Set it to {shape.positions} or less."
            )
            yield Finding(Level.ERROR, "context", what)
        if shape.num_tokens and shape.vocabulary and shape.num_tokens > shape.vocabulary:
            wrong = True
            what = (
                f"{name}: the tokenizer has {shape.num_tokens:,} tokens, the model"
                f" {shape.vocabulary:,}. Use the tokenizer that belongs to the model, or resize its"
                " embedding (model.resize_token_embeddings)."
            )
            yield Finding(Level.ERROR, "context", what)
    if not wrong:
        shape = shapes[setting.recipe.model]
        what = (
            f"{_count(shape.positions)} positions, engine.max_model_len {asked:,}; vocabulary of"
            f" {_count(shape.vocabulary)}"
        )
        yield Finding(Level.OK, "context", what)


def _engine(setting: Setting, shapes: dict[str, Shape]) -> Iterator[Finding]:
    """Heads, tensor parallelism and number type; one line where all is well."""
    engine = setting.recipe.engine
    if engine.kind not in LOCAL_ENGINES:
        return
    wrong = False
    for name, shape in shapes.items():
        for what in _heads(setting, name, shape):
            wrong = True
            yield Finding(Level.ERROR, "engine", what)
    is_here = engine.kind == engine.computes
    is_slow = engine.dtype in (FloatType.BFLOAT16, "float16") and this_device().emulates
    if is_here and is_slow:
        wrong = True
        what = (
            f"engine.dtype: {engine.dtype}, which this processor emulates, some hundred times"
            f" slower than float32 (it has neither {' nor '.join(BFLOAT16_FLAGS)}). Set float32."
        )
        yield Finding(Level.WARNING, "engine", what)
    if not wrong:
        shape = shapes[setting.recipe.model]
        heads = f"{_count(shape.heads)} heads of {_count(shape.head_size)}"
        kind = engine.kind if is_here else f"{engine.computes} in actors of a Ray cluster,"
        yield Finding(Level.OK, "engine", f"{kind} in {engine.dtype}; {heads}")


def _heads(setting: Setting, name: str, shape: Shape) -> Iterator[str]:
    engine = setting.recipe.engine
    # What the nodes of a cluster are is not known here.
    on_cpu = engine.kind == "vllm" and not this_device().is_gpu
    if on_cpu and shape.head_size not in (None, *CPU_HEAD_SIZES):
        yield (
            f"{name} has heads of {shape.head_size}, and vLLM's CPU build computes heads of"
            f" {', '.join(map(str, CPU_HEAD_SIZES))}. Sample with `engine: {{kind: transformers}}`."
        )
    parts = engine.extra.get("tensor_parallel_size", 1)
    if not isinstance(parts, int) or parts < 2 or shape.heads is None:
        return
    if shape.heads % parts:
        fit = [n for n in range(1, parts) if shape.heads % n == 0]
        yield (
            f"engine.extra.tensor_parallel_size: {parts} does not divide the {shape.heads} heads of"
            f" {name}. Set it to {fit[-1]}."
        )
    # Fewer key heads than GPUs are repeated; otherwise they are divided too.
    kv_heads = shape.kv_heads or shape.heads
    if not shape.heads % parts and kv_heads % parts and parts % kv_heads:
        yield (
            f"engine.extra.tensor_parallel_size: {parts} neither divides the {kv_heads} key-value"
            f" heads of {name} nor is a multiple of them. Set it to {kv_heads}."
        )


def _adapter(recipe: Recipe, shape: Shape) -> Iterator[Finding]:
    """Nothing, unless peft.target_modules name no module of the model."""
    targets = (recipe.lora or {}).get("target_modules")
    if not targets or not shape.linear:
        return
    # Embeddings and the output layer may be adapted as well; they are no part of `linear`.
    last = {matrix.name.rpartition(".")[2] for matrix in shape.linear}
    outside = [name for name in OUTSIDE_LAYERS if name in str(targets)]
    if outside or any(memory.is_adapted(matrix.name, targets) for matrix in shape.linear):
        return
    what = (
        f"peft.target_modules: {targets}, but {recipe.model} has no such module. It has"
        f" {', '.join(sorted(last))}; all-linear adapts all of them."
    )
    yield Finding(Level.ERROR, "adapter", what)


def _types(setting: Setting) -> Iterator[Finding]:
    """What `auto` became on this machine, and what training asks for that it is slow in."""
    if setting.choices:
        yield Finding(Level.OK, "types", "; ".join(setting.choices))
    for where, held in trainings(setting.recipe) if this_device().emulates else ():
        # fp16 is for GPUs: the trainer itself refuses it here.
        if held.trainer_settings.get("bf16"):
            what = (
                f"{where}{held.settings_section}.bf16: true, which this processor emulates: a step"
                f" takes some twenty times as long ({this_device().why}). Leave it out: the type is"
                " then chosen for the machine."
            )
            yield Finding(Level.WARNING, "types", what)
            return


def _count(number: int | None) -> str:
    return "an unknown number of" if number is None else f"{number:,}"
