"""Text to token ids and back, the same way for every engine.

Works on a loaded Hugging Face tokenizer; imports none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import CheckpointError, EngineError
from ouroloop.loop.records import Prompt


class Codec:
    """One checkpoint's tokenizer with its stop tokens.

    `stop_token_ids` are the tokenizer's eos_token and those of generation_config.json's
    eos_token_id that are special tokens: a default id that config classes fill in (2, in a
    tokenizer where 2 is a letter) must not end a text.
    """

    def __init__(self, tokenizer: Any, folder: Path):
        if tokenizer.eos_token_id is None:
            raise CheckpointError(
                f"{folder}: the tokenizer has no stop token. Set tokenizer.eos_token and save it"
                " again."
            )
        self.tokenizer, self.folder = tokenizer, folder
        # all_special_ids knows the named ones (bos, eos, pad); the added-token table the rest, such
        # as the end-of-turn tokens of chat models.
        self.special_ids = frozenset(int(i) for i in tokenizer.all_special_ids) | frozenset(
            int(i)
            for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()
            if token.special
        )
        self.eos_token_id = int(tokenizer.eos_token_id)
        self.stop_token_ids = frozenset(
            {self.eos_token_id, *(_generation_stops(folder) & self.special_ids)}
        )

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt: plain text with the tokenizer's own beginning token.

        Chat turns through the chat template.
        """
        if isinstance(prompt, str):
            ids = [int(i) for i in self.tokenizer(prompt)["input_ids"]]
            while (
                ids and ids[-1] in self.stop_token_ids
            ):  # some tokenizers end every text with the stop token
                ids.pop()
        else:
            ids = self._chat([dict(turn) for turn in prompt], generate=True)
        if not ids:
            raise EngineError(
                "the prompt has no tokens. A prompt needs some text, or a tokenizer with a"
                " beginning token."
            )
        return ids

    def completion_ids(self, prompt: Prompt, text: str) -> list[int]:
        """Token ids of a completion, its stop token last."""
        ids = [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]]
        return [*ids, self.eos_token_id if isinstance(prompt, str) else self._end_of_turn()]

    def text(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
        """The text of sampled ids, without a final stop token.

        The prompt's last token is decoded along, since some tokenizers drop a space at the start of
        a text.
        """
        ids = ids[:-1] if ids and ids[-1] in self.stop_token_ids else ids
        # Where the pair does not begin as the last token does (bytes of one character split over
        # both), the completion is decoded alone.
        before, whole = self._decode(prompt_ids[-1:]), self._decode([*prompt_ids[-1:], *ids])
        return whole[len(before) :] if before and whole.startswith(before) else self._decode(ids)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _chat(self, turns: list[dict[str, str]], generate: bool) -> list[int]:
        if not self.tokenizer.chat_template:
            raise EngineError(
                "the prompt is chat turns, but the checkpoint has no chat template. Use plain"
                " prompts (task.prompts.chat: false)."
            )
        # return_dict=False: newer releases would return a mapping by default.
        rendered = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=generate, tokenize=True, return_dict=False
        )
        return [int(i) for i in rendered]

    def _end_of_turn(self) -> int:
        """The stop token with which the chat template ends an assistant turn, else eos_token."""
        # Read from the template itself: which of several stop tokens it writes is nowhere stated.
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        ends = [i for i in self._chat(turns, generate=False)[-3:] if i in self.stop_token_ids]
        return ends[-1] if ends else self.eos_token_id


def _generation_stops(folder: Path) -> frozenset[int]:
    path = folder / "generation_config.json"
    if not path.exists():
        return frozenset()
    value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return frozenset({int(value)} if isinstance(value, int) else {int(i) for i in value or ()})
