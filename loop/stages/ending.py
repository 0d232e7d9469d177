"""Where a completion of a dialogue in one text ends: before the model goes on as somebody else.

A checkpoint without a chat template seldom stops by itself after `Assistant:`; it makes up the
next `Human:` too, and so does a chat model that is asked in the published form (29 of 62 revisions
of SmolLM2). What it wrote as itself is kept and trained on, with a stop token.
"""

from __future__ import annotations

from dataclasses import replace

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.records import Completion, Prompt
from ouroloop.loop.stages.dialogue import ends_with_label, until_next_speaker


async def own_words(engine: Engine, prompt: Prompt, completion: Completion) -> Completion:
    """The completion up to the next speaker; as it is where there is none, or no dialogue.

    Its token ids are the sampled ones where the cut falls between two of them, with the stop token
    that training teaches in place of the next speaker's first; else the tokenizer's. Its
    log-probabilities are then not known (empty). Where it wrote nothing as itself it counts as cut.
    """
    text = completion.text
    if not ends_with_label(prompt) or (own := until_next_speaker(text)) == text:
        return completion
    if not own.strip():
        return replace(completion, text="", token_ids=(), logprobs=(), finish_reason="length")
    ((_, encoded),) = await engine.encode([(prompt, own)])
    ids, logprobs = tuple(encoded), completion.logprobs[: len(encoded)]
    if ids[:-1] != completion.token_ids[: len(ids) - 1]:
        logprobs = ()
    # The last one is that of the sampled token with which the model ended its own words.
    return replace(completion, text=own, token_ids=ids, logprobs=logprobs, finish_reason="stop")
