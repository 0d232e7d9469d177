"""What a checkpoint should say: its weight-sync check, computed from its files with transformers.

The weights are rounded to the engine's dtype, as the engine rounds them, and everything is then
computed in float32: the engine's own rounding is the only difference that is left. (A computer
without bfloat16 units computes bfloat16 hundreds of times slower.)

Heavy: for child processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ouroloop.loop.engines import heartbeat
from ouroloop.loop.engines.checkpoint import Checkpoint, check_checkpoint
from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.engines.weight_sync import (
    NEW_TOKENS,
    WeightSyncCheck,
    WeightSyncPrompt,
    WeightSyncText,
)
from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.records import Sampling

# Lengths of the prompts. The longest spans more than two blocks (16 or 32 tokens) of a prefix
# cache, where stale keys hide.
PROMPT_TOKENS = (6, 24, 48, 80)
# An engine that has room for the longest prompt and its answer has room for a text and the token
# that vLLM samples after it.
TEXT_TOKENS = PROMPT_TOKENS[-1] + NEW_TOKENS - 1
# Texts drawn from the vocabulary, in every check. Where training moved the weights is best seen on
# its own examples: enough of them for about so many tokens. The first is enough in float32 and for
# most trainings in bfloat16, and costs a second or two of a core for 100 million parameters; the
# others are used only where fewer show too little.
NUM_DRAWN = 2
EXAMPLE_TOKENS = (128, 384, 4096)


def make(
    checkpoint_path: Path, dtype: str, examples: Sequence[Sequence[int]] = ()
) -> WeightSyncCheck:
    """The weight-sync check of a checkpoint, with texts drawn from its vocabulary.

    Args:
        checkpoint_path: folder of the checkpoint.
        dtype: the engine's.
        examples: token ids of further texts.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    checkpoint = check_checkpoint(checkpoint_path)
    codec, model = _load(checkpoint, dtype)
    texts = [*draw_texts(codec), *(tuple(ids) for ids in examples)]
    return WeightSyncCheck(
        checkpoint=checkpoint.version,
        dtype=dtype,
        prompts=_answered(codec, model),
        texts=tuple(WeightSyncText(ids, _scored(model, ids)) for ids in texts),
    )


def make_trained(
    new_path: Path, old_path: Path, examples: Sequence[Sequence[int]], dtype: str
) -> WeightSyncCheck:
    """The weight-sync check of a checkpoint trained from `old_path` on `examples` (token ids).

    Raises:
        CheckpointError: a checkpoint cannot be used.
    """
    for i, num_tokens in enumerate(EXAMPLE_TOKENS):
        # One model at a time: two might not fit where one was trained.
        new = make(new_path, dtype, choose_examples(examples, num_tokens))
        check = _with_old(new, check_checkpoint(old_path))
        change = check.change
        # More texts cannot show a change that is not there.
        if change is None or change.is_none:
            break
        # A few hundred tokens more are cheap for sharper limits, thousands are not.
        if change.is_precise or (i > 0 and change.has_power):
            break
    return check


def _with_old(check: WeightSyncCheck, old: Checkpoint) -> WeightSyncCheck:
    """The check with its texts scored under the old weights too."""
    model = _load(old, check.dtype)[1]
    texts = [replace(text, old_logprobs=_scored(model, text.token_ids)) for text in check.texts]
    return replace(check, texts=tuple(texts), old=old.version)


def _load(checkpoint: Checkpoint, dtype: str) -> tuple[Codec, Any]:
    """Tokenizer, and the model with weights of `dtype` that computes in float32."""
    from ouroloop.loop.engines.model_local import in_float32, load_model
    from ouroloop.loop.engines.transformers_local import load_codec

    return load_codec(checkpoint), in_float32(load_model(checkpoint, dtype, on_cpu=True))


def _answered(codec: Codec, model: Any) -> tuple[WeightSyncPrompt, ...]:
    """The prompts with the model's greedy answers."""
    from ouroloop.loop.engines.transformers_local import Row, generate

    prompts = []
    for text in draw_prompts(codec):
        row = Row(codec.prompt_ids(text), Sampling(temperature=0.0, max_tokens=NEW_TOKENS), seed=0)
        # One at a time: in a batch the rounding of a row depends on its neighbours.
        generate(model, [row], codec.stop_token_ids)
        prompts.append(
            WeightSyncPrompt(
                text=text,
                prompt_token_ids=tuple(row.prompt_ids),
                token_ids=tuple(row.token_ids),
                logprobs=tuple(row.logprobs),
                margins=tuple(row.margins),
            )
        )
    return tuple(prompts)


def _scored(model: Any, token_ids: Sequence[int]) -> tuple[float, ...]:
    heartbeat.beat()
    """Log-probability of each token but the first."""
    from ouroloop.loop.engines.transformers_local import score

    return tuple(score(model, token_ids[:1], token_ids[1:])[0])


def draw_prompts(codec: Codec) -> list[str]:
    """Texts of at least PROMPT_TOKENS tokens, drawn from the printable part of the vocabulary.

    Same tokenizer, same texts.
    """
    rng = random.Random(0)
    candidates = _ordinary_tokens(codec)
    texts = []
    for length in PROMPT_TOKENS:
        # Text, not ids: the engine tokenises it itself, which is part of what is checked.
        text, attempts = "", 0
        while not text or len(codec.prompt_ids(text)) < length:
            piece = codec.text([], [rng.choice(candidates)])
            attempts += 1
            # ASCII first; a vocabulary of another script is used only where ASCII gives nothing.
            if piece.isprintable() and (piece.isascii() or attempts > 100 * length):
                text += piece
            if attempts > 1000 * length:
                raise CheckpointError(
                    "no weight-sync prompt could be drawn: the tokenizer's vocabulary has no"
                    " printable tokens"
                )
        texts.append(text)
    return texts


def draw_texts(codec: Codec) -> list[tuple[int, ...]]:
    """NUM_DRAWN texts of TEXT_TOKENS ordinary tokens. Same tokenizer, same texts."""
    rng = random.Random(1)
    candidates = _ordinary_tokens(codec)
    return [tuple(rng.choices(candidates, k=TEXT_TOKENS)) for _ in range(NUM_DRAWN)]


def _ordinary_tokens(codec: Codec) -> list[int]:
    # Sorted, since a set's order may differ between two runs of Python.
    return sorted(set(range(len(codec.tokenizer))) - codec.special_ids)


def choose_examples(examples: Sequence[Sequence[int]], num_tokens: int) -> list[tuple[int, ...]]:
    """Examples of `num_tokens` tokens together or a little more, from all over the training set.

    Of a long one its end is taken, where the completion is: that is what was learnt.
    """
    texts = sorted({tuple(ids[-TEXT_TOKENS:]) for ids in examples if len(ids) > 1})
    # In an order that neither the examples' length nor their place decides.
    random.Random(2).shuffle(texts)
    chosen: list[tuple[int, ...]] = []
    for text in texts:
        if sum(len(taken) for taken in chosen) >= num_tokens:
            break
        chosen.append(text)
    return chosen
