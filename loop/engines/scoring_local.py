"""Log-probabilities as the numbers that vLLM has, not as entries of a dictionary for each token.

vLLM turns each number of each position of a scored text into four entries of lists, one after the
other: of a whole vocabulary that takes longer than the model's own work on the text. Of each
sampled token it makes a dictionary with a record: 4 % of what the small world's model takes.
"""

from __future__ import annotations

from typing import Any


def install() -> None:
    """Make vLLM leave the numbers. Call it before the engine is made.

    Of a request with `flat_logprobs` and without detokenisation, `prompt_logprobs.rows` is then
    float32 of [positions but the first, 1 + number asked for]: the text's own token, then the most
    likely ones. `logprobs.logprobs` holds one number for each sampled token: its own. All other
    lists stay empty. Other requests are vLLM's own business.
    """
    from vllm.logprobs import FlatLogprobs
    from vllm.v1.engine.logprobs import LogprobsProcessor

    of_prompt = LogprobsProcessor._update_prompt_logprobs
    of_sampled = LogprobsProcessor._update_sample_logprobs

    def update_prompt(self: Any, tensors: Any) -> None:
        if self.tokenizer is not None or not isinstance(self.prompt_logprobs, FlatLogprobs):
            of_prompt(self, tensors)
            return
        _, logprobs, *_ = tensors
        self.prompt_logprobs.rows = logprobs.numpy()

    def update_sampled(self: Any, lists: Any) -> None:
        if self.tokenizer is not None or not isinstance(self.logprobs, FlatLogprobs):
            of_sampled(self, lists)
            return
        _, logprobs, *_ = lists
        # The sampled token stands first.
        self.logprobs.logprobs += logprobs[:, 0].tolist()

    # Once: a second call would wrap its own wrappers.
    if of_prompt.__module__ != __name__:
        LogprobsProcessor._update_prompt_logprobs = update_prompt
        LogprobsProcessor._update_sample_logprobs = update_sampled
