"""What is asked of a model and what it answers: one frozen record per thing.

Text and the engine's own token ids travel together. What a round's files hold is in `rows.py`.

Knows nothing but `evals.tasks.Problem`. Shapes: `_T` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ouroloop.evals.tasks import Problem
from ouroloop.monitors.fence import well_formed
from ouroloop.monitors.records import Decimals

__all__ = [
    "Completion",
    "Critique",
    "Message",
    "Problem",
    "Prompt",
    "Request",
    "Sample",
    "Sampling",
    "Scored",
]

# One chat turn: {"role": "system" | "user" | "assistant", "content": str}.
Message = Mapping[str, str]

# Plain text for a base model, or chat turns that the engine renders with the checkpoint's chat
# template.
Prompt = str | Sequence[Message]


@dataclass(frozen=True)
class Sampling:
    """Every sampling parameter, pinned: a checkpoint's generation_config never changes one.

    temperature 0 is greedy. top_k 0 and top_p 1.0 switch the cut off. max_tokens bounds the
    completion.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 256


@dataclass(frozen=True)
class Request:
    """One completion asked of an engine.

    `id` is unique in the run; `seed` is derived from it by hash.
    """

    id: str
    prompt: Prompt
    sampling: Sampling
    seed: int


@dataclass(frozen=True)
class Completion:
    """What an engine answered.

    token_ids_T holds the stop token when finish_reason is "stop"; text never does. logprobs_T are
    raw (before temperature and cuts), in nats, one per token; empty from a server, which does not
    report them. finish_reason "length" means cut: such a completion is never trained on.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    # Five decimals in samples.jsonl: engines differ from each other by more.
    logprobs: Annotated[tuple[float, ...], Decimals(5)]
    text: str
    finish_reason: Literal["stop", "length"]
    weight_version: str

    def __post_init__(self) -> None:
        # The one place where an engine's text enters the records, a journalled text on resume
        # included.
        object.__setattr__(self, "text", well_formed(self.text))


@dataclass(frozen=True)
class Scored:
    """A given text under the model, teacher-forced.

    Token_ids_T: the text's, its stop token last; all empty when it does not fit.

    logprobs_T: of each token after the prompt and the tokens before it, raw, in nats. entropies_T:
    entropy of the distribution that the token was one draw of, in nats. exact: over the whole
    vocabulary; else the tokens beyond the most likely ones count as one, a lower bound.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    exact: bool
    weight_version: str


@dataclass(frozen=True)
class Critique:
    """A judgement of the answer before it.

    Approved is None when the verdict could not be read; probability is P(approve) in [0, 1].
    """

    completion: Completion
    approved: bool | None
    probability: float | None
    principle: str | None = None


@dataclass(frozen=True)
class Sample:
    """One problem's way through draft -> critique -> revise (n times): a line of samples.jsonl.

    `final` is what the filters judge and training would learn. dropped: why no server gave a usable
    answer; such a sample is counted, and left out of everything else.
    """

    id: str
    problem_id: str
    index: int
    temperature: float
    draft: Completion
    critiques: tuple[Critique, ...] = ()
    revisions: tuple[Completion, ...] = ()
    dropped: str = ""

    @property
    def final(self) -> Completion:
        """The last text: the last revision, or the draft."""
        return self.revisions[-1] if self.revisions else self.draft

    @property
    def revised_from(self) -> Completion | None:
        """The text that `final` revises; None where it is the draft."""
        return (self.draft, *self.revisions)[-2] if self.revisions else None

    @property
    def answered_critique(self) -> Critique | None:
        """The critique that `final` answers; None of a draft or a direct revision.

        A critique that says nothing is answered by a direct one.
        """
        turn = len(self.revisions)
        found = self.critiques[turn - 1] if 0 < turn <= len(self.critiques) else None
        return found if found and found.completion.text.strip() else None

    @property
    def approved(self) -> bool | None:
        """Whether the last critique approves of `final`.

        None without a critique of it or with an unreadable one.
        """
        # As many critiques as revisions: the last revision was not criticised any more.
        return self.critiques[-1].approved if len(self.critiques) > len(self.revisions) else None
