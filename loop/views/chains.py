"""A sample's way from draft to final text, as its round's journal has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ouroloop.loop.views.reader import Json


@dataclass(frozen=True)
class Turn:
    """One text of a chain.

    Attributes:
        kind: draft, critique or revision.
        text: as the model wrote it.
        num_prompt_tokens, token_ids_T, logprobs_T: the engine's own; log-probabilities in nats,
            empty where the engine reports none.
        is_cut: ended by the length limit.
        approved, probability: of a critique; None where its verdict could not be read.
    """

    kind: Literal["draft", "critique", "revision"]
    text: str
    num_prompt_tokens: int = 0
    token_ids_T: Sequence[int] = ()
    logprobs_T: Sequence[float] = ()
    is_cut: bool = False
    approved: bool | None = None
    probability: float | None = None

    @property
    def num_tokens(self) -> int:
        """Of the completion."""
        return len(self.token_ids_T)

    @property
    def mean_logprob(self) -> float | None:
        """Nats per token; None where none is known."""
        if not len(self.logprobs_T):
            return None
        return sum(self.logprobs_T) / len(self.logprobs_T)


def turns(chain: Json) -> Iterator[Turn]:
    """Draft, critiques and revisions of a journal's line, in their order."""
    yield _turn("draft", chain["draft"])
    revisions = chain.get("revisions", [])
    for index, critique in enumerate(chain.get("critiques", [])):
        yield _turn("critique", critique)
        # A critique that finds nothing is followed by no revision.
        if index < len(revisions):
            yield _turn("revision", revisions[index])


def _turn(kind: Literal["draft", "critique", "revision"], node: Json) -> Turn:
    # A critique holds its completion beside its verdict; drafts and revisions are completions.
    completion = node.get("completion") or node
    return Turn(
        kind=kind,
        text=str(completion.get("text", "")).strip(),
        num_prompt_tokens=len(completion.get("prompt_token_ids", ())),
        token_ids_T=completion.get("token_ids", ()),
        logprobs_T=completion.get("logprobs", ()),
        is_cut=completion.get("finish_reason") == "length",
        approved=node.get("approved"),
        probability=node.get("probability"),
    )
