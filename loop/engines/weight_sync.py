"""The weight-sync check: proof that an engine serves the weights it was asked to load.

Stored beside the checkpoint by the trainer, and asked of the engine after every load, two things:

* a few prompts decoded greedily, with the tokens and log-probabilities that are right. They are
  drawn from the tokenizer's vocabulary: they know no task. They prove the tokenizer, the prefix
  cache, and weights that are wrong by more than rounding;
* a few texts with the log-probability of every token, under the new weights and under those that
  training started from. They tell these two apart however little a round moved, in every dtype:
  see `served_weights.py`.

`weight_sync_truth.py` computes a check from the checkpoint's files, `weight_sync_proof.py` asks an
engine. Here is what is stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.served_weights import Change, change_between
from ouroloop.loop.errors import CheckpointError

FILE_NAME = "weight_sync.json"
# What makes a checkpoint's check by hand; followed by the checkpoint and the file to write.
COMMAND = "python -m ouroloop.loop.objectives.training --weight-sync"
# 2: texts beside the prompts, in place of `moved`.
FORMAT = 2
NEW_TOKENS = 12
# How far (nats) two right computations of a prompt's log-probabilities may lie apart, by the
# median. Kernels round differently in each dtype.
TOLERANCES = {"float32": 5e-3, "float16": 0.08, "bfloat16": 0.4}


@dataclass(frozen=True)
class WeightSyncPrompt:
    """One prompt and the right greedy answer to it.

    Margins_T: by how much (nats) the best token led the second best.
    """

    text: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class WeightSyncText:
    """One text and what each of its tokens but the first should score, in nats.

    Attributes:
        token_ids: of the whole text.
        logprobs: under the checkpoint's weights.
        old_logprobs: under the weights that training started from; None where nothing was trained.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    old_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True)
class WeightSyncCheck:
    """All prompts and texts of one checkpoint.

    Attributes:
        checkpoint: its version.
        dtype: what the weights were rounded to, and what the engine computes in.
        old: the version of the checkpoint that training started from; None: a base model.
    """

    checkpoint: str
    dtype: str
    prompts: tuple[WeightSyncPrompt, ...]
    texts: tuple[WeightSyncText, ...] = ()
    old: str | None = None
    format: int = FORMAT

    @property
    def new_logprobs(self) -> list[float]:
        """Of all texts, one after the other."""
        return [logprob for text in self.texts for logprob in text.logprobs]

    @property
    def old_logprobs(self) -> list[float] | None:
        """Of all texts under the old weights; None where there are none."""
        if self.old is None:
            return None
        return [logprob for text in self.texts for logprob in text.old_logprobs or ()]

    @property
    def change(self) -> Change | None:
        """How far the new weights are from the old ones; None where there are no old ones."""
        old = self.old_logprobs
        return None if old is None else change_between(self.new_logprobs, old, self.dtype)


def write(check: WeightSyncCheck, path: Path) -> None:
    """Store a weight-sync check atomically."""
    # Several runs may share the folder of checks: each writes a file of its own first.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(check)) + "\n", encoding="utf-8")
    temporary.replace(path)


def is_for(path: Path, dtype: str) -> bool:
    """Whether there is a check for engines of this dtype.

    One of another format, or one that cannot be read, is to be made again.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(raw, dict) and (raw.get("format"), raw.get("dtype")) == (FORMAT, dtype)


def read(path: Path) -> WeightSyncCheck:
    """Read a stored weight-sync check.

    Raises:
        CheckpointError: the file is not a weight-sync check that this version understands.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']}, expected {FORMAT}")
        prompts = tuple(_read_prompt(prompt) for prompt in raw["prompts"])
        texts = tuple(_read_text(text) for text in raw["texts"])
        return WeightSyncCheck(**{**raw, "prompts": prompts, "texts": texts})
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = f"Make it again with `{COMMAND} CHECKPOINT OUT`."
        raise CheckpointError(
            f"{path}: not a readable weight-sync check ({type(error).__name__}: {error}). {remedy}"
        ) from None


def _read_prompt(raw: Mapping[str, Any]) -> WeightSyncPrompt:
    return WeightSyncPrompt(
        text=raw["text"],
        prompt_token_ids=tuple(raw["prompt_token_ids"]),
        token_ids=tuple(raw["token_ids"]),
        logprobs=tuple(raw["logprobs"]),
        margins=tuple(raw["margins"]),
    )


def _read_text(raw: Mapping[str, Any]) -> WeightSyncText:
    old = raw["old_logprobs"]
    return WeightSyncText(
        token_ids=tuple(raw["token_ids"]),
        logprobs=tuple(raw["logprobs"]),
        old_logprobs=None if old is None else tuple(old),
    )
