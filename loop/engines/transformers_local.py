"""Sampling with plain transformers.

Slower than vLLM, runs wherever torch runs, and is what weight-sync checks are computed with.

Runs inside the engine's child process (see `worker.py`) or the trainer's. Suffixes: `_B` requests
in the batch, `_L` padded length, `_V` vocabulary.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from ouroloop.loop.engines import heartbeat
from ouroloop.loop.engines.cache_local import roomy_cache
from ouroloop.loop.engines.checkpoint import Checkpoint, check_checkpoint
from ouroloop.loop.engines.model_local import load_model, on_gpu
from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.errors import EngineError
from ouroloop.loop.records import Completion, Request, Sampling, Scored

# Of a batch: when no more rows than these are unfinished, the others leave.
KEPT_SHARE = 7 / 8


def load_codec(checkpoint: Checkpoint, config: Mapping[str, Any] | None = None) -> Codec:
    """The checkpoint's tokenizer; code shipped inside a checkpoint is never run.

    config: the engine's, with the recipe's `chat_template_kwargs` and `thought_marks`.
    """
    config = config or {}
    return Codec(
        AutoTokenizer.from_pretrained(checkpoint.tokenizer, trust_remote_code=False),
        checkpoint.tokenizer,
        config.get("chat_template_kwargs"),
        config.get("thought_marks", ()),
    )


@dataclass
class Row:
    """One sequence being sampled.

    margins: at each step, how far (in nats) the most likely token stood above the second.
    """

    prompt_ids: Sequence[int]
    sampling: Sampling
    seed: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing may follow."""
        return self.stopped or len(self.token_ids) >= self.sampling.max_tokens


@torch.inference_mode()  # type: ignore[untyped-decorator]
def generate(model: Any, rows_B: Sequence[Row], stop_token_ids: frozenset[int]) -> None:
    """Complete all rows in one left-padded batch, filling them in place.

    A row's random numbers come from its own seed alone, so what it gets does not depend on its
    neighbours (up to floating-point rounding). Finished rows leave the batch a few at a time: each
    leave-taking costs a copy of the cache.
    """
    device = next(model.parameters()).device
    live = list(rows_B)
    uniforms = {id(row): _uniforms(row) for row in live}
    ids_BL, mask_BL = (
        tensor.to(device) for tensor in left_padded([row.prompt_ids for row in live])
    )
    # Positions count real tokens only: a padded row computes what it would alone.
    positions_BL = (mask_BL.cumsum(-1) - 1).clamp(min=0)
    cache = roomy_cache(model.config)
    while live:
        out = model(
            input_ids=ids_BL,
            attention_mask=mask_BL,
            position_ids=positions_BL,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        heartbeat.beat()
        # The draw happens on the CPU in float64: the same numbers on every device.
        logits_BV = out.logits[:, -1].float().cpu()
        # A finished row stays in the batch for a while; it gets its last number again, unused.
        step_uniforms = torch.stack(
            [
                uniforms[id(row)][min(len(row.token_ids), row.sampling.max_tokens - 1)]
                for row in live
            ]
        )
        chosen_B = choose(logits_BV, live, step_uniforms)
        _record(logits_BV, chosen_B, live, stop_token_ids)
        kept = [i for i, row in enumerate(live) if not row.finished]
        # Also true when nothing is kept: the loop then ends.
        if len(kept) <= KEPT_SHARE * len(live):
            index = torch.tensor(kept, dtype=torch.long, device=device)
            cache.batch_select_indices(index)
            mask_BL, chosen_B = mask_BL[index], chosen_B[index.cpu()]
            live = [live[i] for i in kept]
        ids_BL = chosen_B[:, None].to(device)
        mask_BL = torch.cat([mask_BL, torch.ones_like(ids_BL)], dim=-1)
        positions_BL = mask_BL.sum(-1, keepdim=True) - 1


def left_padded(prompts_B: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The prompts' token ids in one tensor, (B, L), and which of its places are real tokens."""
    # Padding stands on the left, so that every row's last column is its newest token.
    # Padded places have id 0 and mask 0: no row attends to them.
    width = max(len(ids) for ids in prompts_B)
    ids_BL = torch.zeros((len(prompts_B), width), dtype=torch.long)
    mask_BL = torch.zeros_like(ids_BL)
    for i, ids in enumerate(prompts_B):
        ids_BL[i, width - len(ids) :] = torch.tensor(ids)
        mask_BL[i, width - len(ids) :] = 1
    return ids_BL, mask_BL


def choose(
    logits_BV: torch.Tensor, rows_B: Sequence[Row], uniforms_B: torch.Tensor
) -> torch.Tensor:
    """One token per row: penalty, temperature, min-p, top-k, top-p in that order (vLLM's).

    Then a draw.

    Args:
        logits_BV: raw logits, float32.
        rows_B: the rows, for their sampling settings and the tokens they have.
        uniforms_B: one number in [0, 1) per row; greedy rows ignore theirs.
    """
    logits_BV = _penalised(logits_BV, rows_B)
    greedy_B = logits_BV.argmax(-1)

    def column(name: str, least: float = -math.inf) -> torch.Tensor:
        return torch.tensor(
            [[max(float(getattr(row.sampling, name)), least)] for row in rows_B],
            dtype=torch.float64,
        )

    # Greedy rows (temperature 0) are divided by 0.01 too, and their draw is thrown away below.
    scaled_BV = logits_BV.double() / column("temperature", least=0.01)
    # Most recipes rule no token out, and need no sorted vocabulary.
    if not any(_filters(row.sampling) for row in rows_B):
        return torch.where(
            column("temperature")[:, 0] == 0, greedy_B, _draw(scaled_BV.softmax(-1), uniforms_B)
        )
    sorted_BV, order_BV = scaled_BV.softmax(-1).sort(dim=-1, descending=True, stable=True)
    top_k = column("top_k")
    # In vLLM's order, and each on what the one before has left: min-p, top-k, top-p.
    cut_BV = sorted_BV < column("min_p") * sorted_BV[:, :1]
    cut_BV |= (torch.arange(logits_BV.shape[-1]) >= top_k) & (top_k > 0)
    sorted_BV = sorted_BV.masked_fill(cut_BV, 0.0)
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    cut_BV |= (before_BV >= column("top_p") * sorted_BV.sum(-1, keepdim=True)) & (before_BV > 0)
    # back in the vocabulary's order: in order of probability, rounding would swap near ties and
    # with them the token drawn
    kept_BV = torch.zeros_like(sorted_BV).scatter(-1, order_BV, sorted_BV.masked_fill(cut_BV, 0.0))
    return torch.where(column("temperature")[:, 0] == 0, greedy_B, _draw(kept_BV, uniforms_B))


def _filters(sampling: Sampling) -> bool:
    """Whether some tokens may be ruled out before the draw."""
    return sampling.min_p > 0 or sampling.top_k > 0 or sampling.top_p < 1


def _draw(weights_BV: torch.Tensor, uniforms_B: torch.Tensor) -> torch.Tensor:
    """The token of each row at which the cumulative weight passes the row's uniform number."""
    cumulative_BV = weights_BV.cumsum(-1)
    total_B1 = cumulative_BV[:, -1:]
    # Rounding may put u * total on the total itself, one token past the last: stay below.
    threshold_B1 = torch.minimum(
        uniforms_B[:, None] * total_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1))
    )
    return (cumulative_BV <= threshold_B1).sum(-1)


def _penalised(logits_BV: torch.Tensor, rows_B: Sequence[Row]) -> torch.Tensor:
    """Apply the repetition penalty to tokens seen in prompt or completion.

    Positive logits are divided by it, negative ones multiplied.
    """
    if all(row.sampling.repetition_penalty == 1 for row in rows_B):
        return logits_BV
    logits_BV = logits_BV.clone()
    # A set, not a count: the penalty is applied once however often a token has occurred.
    for logits_V, row in zip(logits_BV, rows_B, strict=True):
        seen = torch.tensor(sorted({*row.prompt_ids, *row.token_ids}))
        values = logits_V[seen]
        logits_V[seen] = torch.where(
            values > 0,
            values / row.sampling.repetition_penalty,
            values * row.sampling.repetition_penalty,
        )
    return logits_BV


def _record(
    logits_BV: torch.Tensor,
    chosen_B: torch.Tensor,
    rows_B: Sequence[Row],
    stop_token_ids: frozenset[int],
) -> None:
    # Of the raw logits, before penalty and temperature: what vLLM calls raw_logprobs.
    logprobs_BV = logits_BV.log_softmax(-1)
    chosen = logprobs_BV.gather(-1, chosen_B[:, None])[:, 0].tolist()
    top_B2 = logprobs_BV.topk(2, dim=-1).values
    for row, token, logprob, margin in zip(
        rows_B, chosen_B.tolist(), chosen, (top_B2[:, 0] - top_B2[:, 1]).tolist(), strict=True
    ):
        if row.finished:
            continue
        row.token_ids.append(token)
        row.logprobs.append(logprob)
        row.margins.append(margin)
        row.stopped = token in stop_token_ids


def _uniforms(row: Row) -> torch.Tensor:
    # All numbers of a row at once: the n-th token's number depends on seed and n alone.
    generator = torch.Generator().manual_seed(row.seed % 2**63)
    return torch.rand(row.sampling.max_tokens, generator=generator, dtype=torch.float64)


@torch.inference_mode()  # type: ignore[untyped-decorator]
def score(
    model: Any, prompt_ids: Sequence[int], completion_ids: Sequence[int]
) -> tuple[list[float], list[float]]:
    """(log-probability of each completion token, entropy of the distribution that it came from).

    In nats, by one forward pass.

    One text at a time: no padding, and the logits (`_TV`) of one text are what a large vocabulary
    leaves room for.
    """
    ids = torch.tensor([[*prompt_ids, *completion_ids]], device=next(model.parameters()).device)
    logits_TV = model(
        input_ids=ids, use_cache=False, logits_to_keep=len(completion_ids) + 1
    ).logits[0, :-1]
    logprobs_TV = logits_TV.float().log_softmax(-1)
    own_T = logprobs_TV.gather(-1, ids[0, len(prompt_ids) :, None])[:, 0]
    # entr is 0 where p underflows to 0; p * log p would be NaN there.
    entropies_T = torch.special.entr(logprobs_TV.exp()).sum(-1)
    return own_T.tolist(), entropies_T.tolist()


class TransformersBackend:
    """The `Backend` of `worker.py` on plain transformers: what is queued becomes one batch."""

    def __init__(self, config: Mapping[str, Any]):
        self.config = config
        self.dtype: str = config.get("dtype", "float32")
        self.max_model_len: int = config["max_model_len"]
        self.max_num_seqs: int = config["max_num_seqs"]
        self._queue: deque[tuple[int, Row, Request]] = deque()
        self._texts: deque[tuple[int, list[int], list[int]]] = deque()

    def load(self, checkpoint_path: Path) -> dict[str, Any]:
        """Replace model and tokenizer."""
        checkpoint = check_checkpoint(checkpoint_path)
        self.codec = load_codec(checkpoint, self.config)
        # The old weights go first: there may be no room for two models.
        self.model: Any = None
        if checkpoint.is_adapter:
            from ouroloop.loop.engines.merging_local import merged

            self.model = on_gpu(merged(checkpoint, self.dtype)).eval()
        else:
            self.model = load_model(checkpoint, self.dtype)
        self.version = checkpoint.version
        return {"weight_version": self.version, "block_size": None}

    def submit(self, key: int, request: Request, prompt_ids: list[int]) -> None:
        """Queue a request."""
        self._queue.append((key, Row(prompt_ids, request.sampling, request.seed), request))

    def submit_text(self, key: int, prompt_ids: list[int], completion_ids: list[int]) -> None:
        """Queue a text to be scored."""
        self._texts.append((key, prompt_ids, completion_ids))

    @property
    def busy(self) -> bool:
        """Whether requests or texts wait."""
        return bool(self._queue or self._texts)

    def step(self) -> list[tuple[int, Completion | Scored | EngineError]]:
        """Score the next waiting text, or complete the next batch of waiting requests."""
        if self._texts:
            key, prompt_ids, ids = self._texts.popleft()
            logprobs, entropies = score(self.model, prompt_ids, ids)
            return [
                (
                    key,
                    Scored(
                        tuple(ids),
                        tuple(logprobs),
                        tuple(entropies),
                        exact=True,
                        weight_version=self.version,
                    ),
                )
            ]
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), self.max_num_seqs))]
        generate(self.model, [row for _, row, _ in batch], self.codec.stop_token_ids)
        return [(key, self._completion(row, request)) for key, row, request in batch]

    def _completion(self, row: Row, request: Request) -> Completion:
        return Completion(
            request_id=request.id,
            prompt_token_ids=tuple(row.prompt_ids),
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            text=self.codec.text(row.prompt_ids, row.token_ids),
            finish_reason="stop" if row.stopped else "length",
            weight_version=self.version,
        )

    def close(self) -> None:
        """Nothing to do: the process ends."""
