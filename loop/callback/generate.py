"""Samples of a fixed probe set from the model that a trainer is training, as trace rows.

What `CollapseMonitor` measures by default.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.engines.transformers_local import left_padded
from ouroloop.monitors.fence import Unreadable, attempt

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generate:
    """Samples a fixed probe set with `model.generate` at temperature 1, without top-k or top-p.

    Four times as many at step 0: the baseline's noise enters every later comparison. Seeded anew by
    the step, so that a resumed training draws what an uninterrupted one would.

    Prompts become token ids as in the loop's engines: what they spell like a control token is text.

    Attributes:
        problems: each with `problem` (id) and `prompt` (a plain text, or chat messages, which the
            tokenizer's chat template renders), and any of `family`, `slice`; other keys are the
            grader's.
        grade: (problem, text) -> right, wrong or None. A text on which it raises is unscored, and a
            warning is logged.
    """

    problems: Sequence[Mapping[str, Any]]
    grade: Callable[[Mapping[str, Any], str], bool | None]
    samples: int = 8
    max_new_tokens: int = 256
    batch_size: int = 32
    seed: int = 0

    def num_rows(self, step: int) -> int:
        """How many rows a call at this step gives."""
        return len(self.problems) * self.samples * (1 if step else 4)

    def __call__(self, model: Any, tokenizer: Any, step: int) -> Iterator[dict[str, Any]]:
        """The rows."""
        # Not Python's hash(): it differs from process to process.
        torch.manual_seed(
            int.from_bytes(hashlib.sha256(f"{self.seed}:{step}".encode()).digest()[:6], "big")
        )
        # A model of the hub has no folder: its stop tokens are asked of the model (`_stop_tokens`).
        codec = Codec(tokenizer, Path(tokenizer.name_or_path))
        wanted = [p for p in self.problems for _ in range(self.samples * (1 if step else 4))]
        for start in range(0, len(wanted), self.batch_size):
            batch = wanted[start : start + self.batch_size]
            completions = self._complete(model, codec, [p["prompt"] for p in batch])
            for problem, (text, logprobs, is_cut) in zip(batch, completions, strict=True):
                about = {
                    key: problem[key] for key in ("problem", "family", "slice") if key in problem
                }
                yield {
                    **about,
                    "text": text,
                    "correct": self._grade(problem, text),
                    "logprobs": logprobs,
                    "truncated": is_cut,
                }

    def _grade(self, problem: Mapping[str, Any], text: str) -> bool | None:
        verdict = attempt("grade", self.grade, problem, text)
        if isinstance(verdict, Unreadable):
            _log.warning(
                "collapse monitor: a sample of problem %s is unscored: %s: %s",
                problem.get("problem"),
                verdict.label,
                verdict.message,
            )
            return None
        return verdict

    def _complete(
        self, model: Any, codec: Codec, prompts: Sequence[Any]
    ) -> Iterator[tuple[str, list[float], bool]]:
        """(text, log-probabilities with the stop token's, cut by length) of each prompt."""
        asked_B = [codec.prompt_ids(prompt) for prompt in prompts]
        ids_BL, mask_BL = left_padded(asked_B)
        stops = _stop_tokens(model, codec.tokenizer)
        recorder = _Recorder()
        found = model.generate(
            input_ids=ids_BL.to(model.device),
            attention_mask=mask_BL.to(model.device),
            generation_config=self._config(codec.tokenizer, stops),
            logits_processor=LogitsProcessorList([recorder]),
        )
        new_BT = found[:, ids_BL.shape[1] :]
        rows = zip(asked_B, new_BT.tolist(), recorder.finish(new_BT), strict=True)
        for asked, ids, logprobs in rows:
            # The stop token is part of the sample: its log-probability says how surely it ended.
            stop = next((i for i, token in enumerate(ids) if token in stops), None)
            end = len(ids) if stop is None else stop + 1
            # Rounding can lift the log-probability of a certain token just above 0.
            yield (
                codec.text(asked, ids[:stop]),
                [min(x, 0.0) for x in logprobs[:end]],
                stop is None,
            )

    def _config(self, tokenizer: Any, stops: set[int]) -> GenerationConfig:
        """Every sampling parameter is set: a checkpoint's own defaults change nothing."""
        pad = tokenizer.pad_token_id
        if pad is None:
            pad = tokenizer.eos_token_id
        return GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=self.max_new_tokens,
            use_cache=True,
            eos_token_id=sorted(stops),
            pad_token_id=pad,
        )


def _stop_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The ids that end a completion: the model's own list, else the tokenizer's one."""
    stops = model.generation_config.eos_token_id
    if stops is None:
        stops = tokenizer.eos_token_id
    if isinstance(stops, list):
        return set(stops)
    return {stops}


class _Recorder(LogitsProcessor):  # type: ignore[misc]
    """Keeps the log-probability of every sampled token.

    A step's token is known only in the next step, so that the last distribution over the vocabulary
    is kept until then, and no earlier one: they would be far larger than the samples.
    """

    def __init__(self) -> None:
        self.before: Any = None
        self.logprobs: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if self.before is not None:
            self.logprobs.append(self.before.gather(1, input_ids[:, -1:])[:, 0])
        self.before = scores.float().log_softmax(-1)
        return scores

    def finish(self, new_BT: Any) -> list[list[float]]:
        """Log-probabilities, one list per row."""
        self.logprobs.append(self.before.gather(1, new_BT[:, -1:])[:, 0])
        return torch.stack(self.logprobs, dim=1).tolist()  # type: ignore[no-any-return]
