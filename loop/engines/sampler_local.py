"""Sampling with a seed for each request, from one uniform number a row.

vLLM draws as many exponential variates for a row as its vocabulary has tokens, and for a request
with a seed of its own it does so row by row: with 49,152 tokens that is most of a step on a CPU.
Inverting the distribution function takes one uniform number and gives the same distribution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Below this size vLLM's own way is as quick, and its draws are those of earlier runs.
LEAST_VOCABULARY = 4096
# Tokens that are summed together first: a distribution function over blocks, then over one block.
BLOCK = 256


def install() -> None:
    """Make vLLM's CPU sampler draw so. Call it before the engine is made."""
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler, apply_top_k_top_p

    theirs = TopKTopPSampler.forward_cpu

    def forward_cpu(
        self: Any, logits: torch.Tensor, generators: dict[int, torch.Generator], k: Any, p: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # Where processed log-probabilities are asked for, or nothing is seeded: vLLM's own way.
        if not generators or self.logprobs_mode.startswith("processed"):
            found: tuple[torch.Tensor, torch.Tensor | None] = theirs(self, logits, generators, k, p)
            return found
        if logits.shape[-1] < LEAST_VOCABULARY:
            # The same draws; but where all rows are seeded none is made first and then thrown away.
            found = self.forward_native(logits, generators, k, p)
            return found
        return draw(apply_top_k_top_p(logits, k, p), generators), None

    # Once: a second call would wrap its own wrapper.
    if theirs.__module__ != __name__:
        TopKTopPSampler.forward_cpu = forward_cpu


def draw(logits_BV: torch.Tensor, generators: dict[int, torch.Generator]) -> torch.Tensor:
    """One token a row, by its generator; rows without one share torch's global generator.

    Args:
        logits_BV: the rows' logits; -inf where a token was cut off.
        generators: row -> its generator; each gives up exactly one number.

    Returns:
        Token ids, int64 of shape (B,).
    """
    import torch

    num_rows, size = logits_BV.shape
    p_BV = logits_BV.softmax(dim=-1, dtype=torch.float32)
    # Whole blocks: what is added has probability 0 and is never drawn. Padding by nothing copies.
    short = -size % BLOCK
    padded = torch.nn.functional.pad(p_BV, (0, short)) if short else p_BV
    p_BKn = padded.view(num_rows, -1, BLOCK)
    up_to_BK = p_BKn.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    uniform_B = torch.rand(num_rows, dtype=torch.float64)
    for row, generator in generators.items():
        uniform_B[row] = torch.rand((), generator=generator, dtype=torch.float64)
    # Not 1 but what the probabilities really add up to: no number may fall beyond the last token.
    target_B = uniform_B * up_to_BK[:, -1]
    block_B = _first_above(up_to_BK, target_B)
    rows = torch.arange(num_rows)
    before_B = torch.where(block_B > 0, up_to_BK[rows, (block_B - 1).clamp(min=0)], 0.0)
    within_Bn = p_BKn[rows, block_B].cumsum(dim=-1, dtype=torch.float64)
    token_B = block_B * BLOCK + _first_above(within_Bn, target_B - before_B)
    return _nearest_possible(p_BV, token_B)


def _first_above(up_to: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
    """The first column whose running sum lies above the target."""
    import torch

    found = torch.searchsorted(up_to, target_B.unsqueeze(-1), right=True).squeeze(-1)
    return found.clamp(max=up_to.shape[-1] - 1)


def _nearest_possible(p_BV: torch.Tensor, token_B: torch.Tensor) -> torch.Tensor:
    """The token, or the likeliest one where rounding led to a token of probability 0."""
    import torch

    token_B = token_B.clamp(max=p_BV.shape[-1] - 1)
    is_possible_B = p_BV.gather(1, token_B.unsqueeze(-1)).squeeze(-1) > 0
    if bool(is_possible_B.all()):
        return token_B
    return torch.where(is_possible_B, token_B, p_BV.argmax(dim=-1))
