"""Text to token ids and back, the same way for every engine.

What a problem, a model or a teacher wrote is text: `<|im_end|>` in a question is spelt out in
ordinary tokens and ends no turn. Control tokens come from the chat template alone, and from the
marks of a thought that the recipe names (`reasoning.open`, `reasoning.close`).

Works on a loaded Hugging Face tokenizer; imports none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import CheckpointError, EngineError
from ouroloop.loop.records import Prompt

# Prompts whose token ids are kept: more would be room for long ones, and seldom asked for again.
KEPT_PROMPTS = 64


class Codec:
    """One checkpoint's tokenizer with its stop tokens.

    `stop_token_ids` are the tokenizer's eos_token and those of generation_config.json's
    eos_token_id that are special tokens: a default id that config classes fill in (2, in a
    tokenizer where 2 is a letter) must not end a text.

    Args:
        tokenizer: loaded by transformers.
        folder: where it was loaded from.
        chat_template_kwargs: what the chat template is rendered with, e.g. enable_thinking.
        marks: the marks of a thought. Where one is a control token of this tokenizer it is kept
            in texts and written as that token in completions.
    """

    def __init__(
        self,
        tokenizer: Any,
        folder: Path,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        marks: Sequence[str] = (),
    ):
        if tokenizer.eos_token_id is None:
            raise CheckpointError(
                f"{folder}: the tokenizer has no stop token. Set tokenizer.eos_token and save it"
                " again."
            )
        self.tokenizer, self.folder = tokenizer, folder
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self._control_ids = _control_ids(tokenizer)
        self.special_ids = frozenset(self._control_ids.values())
        self._marks = {mark: self._control_ids[mark] for mark in marks if mark in self._control_ids}
        # The longest first: one control token may begin as another does.
        spellings = sorted(self._control_ids, key=len, reverse=True)
        self._control = re.compile("|".join(re.escape(each) for each in spellings) or r"(?!)")
        # The samples of a problem share its prompt, and are asked for together.
        self._ids_of = lru_cache(maxsize=KEPT_PROMPTS)(self._tokenised)
        self.eos_token_id = int(tokenizer.eos_token_id)
        self.stop_token_ids = frozenset(
            {self.eos_token_id, *(_generation_stops(folder) & self.special_ids)}
        )

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt: plain text with the tokenizer's own beginning token.

        Chat turns through the chat template.
        """
        if not isinstance(prompt, str):
            return list(self._ids_of(tuple(tuple(turn.items()) for turn in prompt)))
        return list(self._ids_of(prompt))

    def _tokenised(self, prompt: str | tuple[tuple[tuple[str, str], ...], ...]) -> list[int]:
        """Token ids of a plain prompt, or of turns as their items."""
        if isinstance(prompt, str):
            found = self.tokenizer(prompt, split_special_tokens=True)
            ids = [int(i) for i in found["input_ids"]]
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
        ids = self._with_marks(text) if self._marks else self._text_ids(text)
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
        if not self._marks:
            return self._decode_text(ids)
        # Piece by piece: the marks are control tokens, which decoding would leave out.
        spelt = {number: mark for mark, number in self._marks.items()}
        pieces: list[str] = []
        rest: list[int] = []
        for number in ids:
            if number in spelt:
                pieces += [self._decode_text(rest), spelt[number]]
                rest = []
            else:
                rest.append(number)
        return "".join([*pieces, self._decode_text(rest)])

    def _decode_text(self, ids: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _text_ids(self, text: str) -> list[int]:
        """Token ids of a piece of text, in which nothing is a control token."""
        if not text:
            return []
        found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return [int(i) for i in found["input_ids"]]

    def _with_marks(self, text: str) -> list[int]:
        """Token ids of a completion, the marks of a thought as the control tokens that they are."""
        ids: list[int] = []
        for piece in re.split("(" + "|".join(map(re.escape, self._marks)) + ")", text):
            ids += [self._marks[piece]] if piece in self._marks else self._text_ids(piece)
        return ids

    def _chat(self, turns: list[dict[str, str]], generate: bool) -> list[int]:
        if not self.tokenizer.chat_template:
            raise EngineError(
                "the prompt is chat turns, but the checkpoint has no chat template. Use plain"
                " prompts (task.prompts.chat: false)."
            )
        spelt = [
            {**turn, "content": self._control.sub(self._veil, turn["content"])} for turn in turns
        ]
        try:
            rendered = self.tokenizer.apply_chat_template(
                spelt, add_generation_prompt=generate, tokenize=False, **self.chat_template_kwargs
            )
        except Exception as error:  # whatever a template of somebody's raises
            roles = ", ".join(turn["role"] for turn in turns)
            raise EngineError(
                f"{self.folder}: the chat template refuses the turns {roles[:200]} ({error})."
                " Take such problems out, or use plain prompts (task.prompts.chat: false)."
            ) from None
        if spelt == turns:
            # The tokenizer's own way, which is also apply_chat_template's.
            found = self.tokenizer(rendered, add_special_tokens=False)
            return [int(i) for i in found["input_ids"]]
        ids: list[int] = []
        start = 0
        # What still looks like a control token was written by the template; between two of them
        # the veiled ones are put back, as text.
        for match in self._control.finditer(rendered):
            ids += self._text_ids(self._unveiled(rendered[start : match.start()]))
            ids.append(self._control_ids[match[0]])
            start = match.end()
        return ids + self._text_ids(self._unveiled(rendered[start:]))

    def _veil(self, match: re.Match[str]) -> str:
        """A stand-in for a control token's spelling, of private-use characters and its id."""
        return f"\ue000{self._control_ids[match[0]]}\ue001"

    def _unveiled(self, text: str) -> str:
        spelt = {str(number): spelling for spelling, number in self._control_ids.items()}
        return re.sub("\ue000([0-9]+)\ue001", lambda m: spelt.get(m[1], m[0]), text)

    def _end_of_turn(self) -> int:
        """The stop token with which the chat template ends an assistant turn, else eos_token."""
        # Read from the template itself: which of several stop tokens it writes is nowhere stated.
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        ends = [i for i in self._chat(turns, generate=False)[-3:] if i in self.stop_token_ids]
        return ends[-1] if ends else self.eos_token_id


def _control_ids(tokenizer: Any) -> dict[str, int]:
    """Spelling -> id of every control token of a tokenizer."""
    # The named ones (bos, eos, pad) first; the added-token table knows the rest, such as the
    # end-of-turn tokens of chat models.
    found = {
        str(token): int(number)
        for token, number in zip(
            tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True
        )
    }
    for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items():
        if token.special:
            found[str(token.content)] = int(number)
    return found


def _generation_stops(folder: Path) -> frozenset[int]:
    path = folder / "generation_config.json"
    if not path.exists():
        return frozenset()
    value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return frozenset({int(value)} if isinstance(value, int) else {int(i) for i in value or ()})
