"""The fake engine of every fast test.

A Python function answers, in process, the same way every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ouroloop.loop.errors import EngineError, PromptTooLongError
from ouroloop.loop.records import Completion, Prompt, Request, Scored
from ouroloop.monitors.fence import well_formed

STOP_TOKEN = 256


@dataclass(frozen=True)
class Answer:
    """A scripted completion.

    It has a text, whether the model stopped by itself, and each token's log-probability (nats).
    """

    text: str
    stopped: bool = True
    logprob: float = -0.1


def echo(request: Request) -> str:
    """The default script: the last non-empty line of the prompt."""
    lines = [line for line in as_text(request.prompt).splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def as_text(prompt: Prompt) -> str:
    """A prompt as one text: chat turns become `role: content` lines."""
    return (
        prompt
        if isinstance(prompt, str)
        else "".join(f"{turn['role']}: {turn['content']}\n" for turn in prompt)
    )


@dataclass
class ScriptedEngine:
    """An engine whose completions come from `answer(request)`.

    Token ids are UTF-8 bytes, the stop token is 256.

    `answer` may raise. An answer longer than the request's max_tokens is cut, finish_reason
    "length". After `fail_after` completions and scores every further one raises EngineError, as a
    dead engine would. `loaded`, `requests` and `scored` record the calls; `answer` may look at
    them. `surprise(prompt, text)` gives (log-probability, entropy) of every token of a text that is
    scored, in nats; raising PromptTooLongError it says that the text does not fit.
    """

    answer: Callable[[Request], str | Answer] = echo
    fail_after: int | None = None
    loaded: list[Path] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    closed: bool = False
    surprise: Callable[[Prompt, str], tuple[float, float]] = lambda prompt, text: (-0.1, 0.2)
    scored: list[tuple[Prompt, str]] = field(default_factory=list)

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        """Record the checkpoint; nothing is read."""
        self.closed = False
        self.loaded.append(checkpoint)
        return ""

    async def complete(self, request: Request) -> Completion:
        """Answer from the script.

        Raises: EngineError: nothing was loaded, the engine was closed, or `fail_after` completions
            were given.
        """
        self._check_alive()
        if not request.prompt:
            raise EngineError(f"request {request.id}: the prompt is empty")
        self.requests.append(request)
        given = self.answer(request)
        answer = Answer(given) if isinstance(given, str) else given
        raw = well_formed(answer.text).encode()
        ids = [*raw, STOP_TOKEN] if answer.stopped else list(raw)
        stopped = answer.stopped and len(ids) <= request.sampling.max_tokens
        ids = ids[: request.sampling.max_tokens]
        return Completion(
            request_id=request.id,
            prompt_token_ids=tuple(as_text(request.prompt).encode()),
            token_ids=tuple(ids),
            logprobs=tuple(answer.logprob for _ in ids),
            text=bytes(i for i in ids if i != STOP_TOKEN).decode(errors="ignore"),
            finish_reason="stop" if stopped else "length",
            weight_version=self._version(),
        )

    async def encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[list[int], list[int]]]:
        """UTF-8 bytes, the stop token appended to the completion.

        Raises:
            EngineError: an empty prompt, as every real engine says.
        """
        if not all(prompt for prompt, _ in pairs):
            raise EngineError("scripted engine: the prompt has no tokens")
        return [
            (list(as_text(prompt).encode()), [*text.encode(), STOP_TOKEN]) for prompt, text in pairs
        ]

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """Every token as surprising as `surprise` says.

        Raises:
            EngineError: as `complete` and `encode`.
        """
        out = []
        for (prompt, text), (_, ids) in zip(pairs, await self.encode(pairs), strict=True):
            self._check_alive()
            self.scored.append((prompt, text))
            try:
                logprob, entropy = self.surprise(prompt, text)
            except PromptTooLongError:
                out.append(Scored((), (), (), exact=False, weight_version=""))
            else:
                out.append(
                    Scored(
                        tuple(ids),
                        (logprob,) * len(ids),
                        (entropy,) * len(ids),
                        exact=True,
                        weight_version=self._version(),
                    )
                )
        return out

    def _check_alive(self) -> None:
        if not self.loaded or self.closed:
            raise EngineError(
                "scripted engine: asked before load() or after close(). Load a checkpoint first."
            )
        if self.fail_after is not None and len(self.requests) + len(self.scored) >= self.fail_after:
            raise EngineError(
                f"scripted engine: set to fail after {self.fail_after} completions and scores"
            )

    def _version(self) -> str:
        return "/".join(self.loaded[-1].parts[-2:])

    async def close(self) -> None:
        """Refuse further completions until the next load."""
        self.closed = True
