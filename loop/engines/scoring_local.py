"""Log-probabilities of a scored text as the array that vLLM has, not as Python numbers.

vLLM turns each number of each position into four entries of lists, one after the other. Of a whole
vocabulary that takes longer than the model's own work on the text.
"""

from __future__ import annotations

from typing import Any


def install() -> None:
    """Make vLLM leave arrays. Call it before the engine is made.

    Of a request with `flat_logprobs` and without detokenisation, `prompt_logprobs.rows` is then
    float32 of [positions but the first, 1 + number asked for]: the text's own token, then the most
    likely ones. Its lists stay empty. Other requests are vLLM's own business.
    """
    from vllm.logprobs import FlatLogprobs
    from vllm.v1.engine.logprobs import LogprobsProcessor

    theirs = LogprobsProcessor._update_prompt_logprobs

    def update(self: Any, tensors: Any) -> None:
        if self.tokenizer is not None or not isinstance(self.prompt_logprobs, FlatLogprobs):
            theirs(self, tensors)
            return
        _, logprobs, *_ = tensors
        self.prompt_logprobs.rows = logprobs.numpy()

    # Once: a second call would wrap its own wrapper.
    if theirs.__module__ != __name__:
        LogprobsProcessor._update_prompt_logprobs = update
