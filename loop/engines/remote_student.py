"""One server as a `Backend`: prompts go out and answers come back as the student's own token ids.

It is asked through the completions endpoint alone: the chat template is rendered here, so a server
with another template changes nothing. vLLM gives token ids, log-probabilities and those of a given
text, so its weights are proven as a local engine's are. A server that gives none of them can
sample, its texts tokenised here; nothing can then prove its weights or score a text.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.answers import MalformedAnswerError
from ouroloop.loop.engines.checkpoint import Checkpoint, check_checkpoint
from ouroloop.loop.engines.pacing import Limits, backoff
from ouroloop.loop.engines.remote_reload import new_weights
from ouroloop.loop.engines.remote_server import LostAnswerError, Server, settings_of
from ouroloop.loop.engines.student_answers import (
    Choice,
    logprobs_of,
    own_ids,
    read_choice,
    scored_of,
)
from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.errors import EngineError, EngineLostError, OuroloopError
from ouroloop.loop.records import Completion, Request, Sampling, Scored

# How long a step waits for an answer: as long may a request that comes meanwhile wait.
STEP_SECONDS = 0.02
# Log-probabilities that are asked for at each position of a text; servers allow 20 by default.
TOP_TOKENS = 20
Outcome = tuple[int, Completion | Scored | EngineError]


class ServerBackend:
    """The `Backend` of `worker.py` on a server.

    `config` has EngineConfig's keys, `address`, and the recipe's `students` and `servers`.
    """

    def __init__(self, config: Mapping[str, Any]):
        self.config = config
        self.max_model_len: int = config["max_model_len"]
        asked = {key: value for key, value in config["servers"].items() if key != "max_dropped"}
        self.limits = Limits(**asked)
        # The worker drives a backend step by step from its thread; connections live in another.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._finished: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._num_waiting = 0
        self._model = ""
        self._server = self._run(self._connected())

    def load(self, checkpoint_path: Path) -> dict[str, Any]:
        """Have the server put these weights in the place of its present ones."""
        checkpoint = check_checkpoint(checkpoint_path)
        self.codec = self.codec_of(checkpoint)
        served = self._run(self._reloaded(checkpoint))
        self.version, self._model = checkpoint.version, served.model
        if served.max_model_len is not None and served.max_model_len < self.max_model_len:
            raise EngineError(
                f"{self._server.url}: its context is {served.max_model_len} tokens, and"
                f" engine.max_model_len is {self.max_model_len}. Start it with --max-model-len"
                f" {self.max_model_len}, or lower that."
            )
        if self.config.get("weight_sync_check", True):
            # A check needs log-probabilities; a server that gives none is refused before it fails.
            stop = self.codec.eos_token_id
            self._run(self._score([stop], [stop]))
        return {"weight_version": self.version, "block_size": served.block_size}

    def codec_of(self, checkpoint: Checkpoint) -> Codec:
        """The student's tokenizer."""
        from ouroloop.loop.engines.transformers_local import load_codec

        return load_codec(checkpoint, self.config)

    def submit(self, key: int, request: Request, prompt_ids: list[int]) -> None:
        """Ask for a completion."""
        self._start(key, self._complete(request, prompt_ids))

    def submit_text(self, key: int, prompt_ids: list[int], completion_ids: list[int]) -> None:
        """Ask for the log-probabilities of a text."""
        self._start(key, self._score(prompt_ids, completion_ids))

    @property
    def busy(self) -> bool:
        """Whether answers are waited for."""
        return self._num_waiting > 0

    def step(self) -> list[Outcome]:
        """The answers that came."""
        try:
            found = [self._finished.get(timeout=STEP_SECONDS)]
        except queue.Empty:
            return []
        while not self._finished.empty():
            found.append(self._finished.get())
        self._num_waiting -= len(found)
        return found

    def close(self) -> None:
        """Close the connections; the server stays."""
        self._run(self._server.client.close())

    # -- in the loop's thread -----------------------------------------------------------

    async def _connected(self) -> Server:
        return Server(self.config["address"], self.limits)

    async def _reloaded(self, checkpoint: Checkpoint) -> Any:
        wait = (self.config.get("supervision") or {}).get("start_s", 1800.0)
        return await new_weights(
            self._server, checkpoint, self.config["students"]["reload"], float(wait)
        )

    async def _complete(self, request: Request, prompt_ids: list[int]) -> Completion:
        settings = settings_of(request.sampling)
        extra = {
            **settings.pop("extra_body", {}),
            # As vllm_local: our own stop tokens alone, and their token in the answer.
            "stop_token_ids": sorted(self.codec.stop_token_ids),
            "ignore_eos": True,
            "min_tokens": 0,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
        asked = {**settings, "seed": request.seed, "logprobs": 0, "extra_body": extra}
        choice = await self._asked(request, prompt_ids, asked)
        ids = own_ids(choice, self.codec, request)
        if choice.finish_reason not in ("stop", "length"):
            reason = choice.finish_reason
            raise EngineError(f"request {request.id}: the server ended it with {reason!r}")
        return Completion(
            request_id=request.id,
            prompt_token_ids=tuple(prompt_ids),
            token_ids=tuple(ids),
            logprobs=logprobs_of(choice, len(ids)),
            text=self.codec.text(prompt_ids, ids),
            finish_reason="stop" if choice.finish_reason == "stop" else "length",
            weight_version=self.version,
        )

    async def _score(self, prompt_ids: list[int], completion_ids: list[int]) -> Scored:
        # No server scores a text without sampling a token after it.
        request = Request("a text to be scored", "", Sampling(temperature=0.0, max_tokens=1), 0)
        asked = {
            "temperature": 0.0,
            "max_tokens": 1,
            "extra_body": {"prompt_logprobs": TOP_TOKENS, "return_token_ids": True},
        }
        choice = await self._asked(request, [*prompt_ids, *completion_ids], asked)
        return scored_of(choice, completion_ids, self.version, TOP_TOKENS, self._server.url)

    async def _asked(
        self, request: Request, prompt_ids: list[int], settings: Mapping[str, Any]
    ) -> Choice:
        """The server's choice, asked for again where an answer was lost.

        Raises:
            EngineLostError: no usable answer in as many attempts as `servers` allows: another
                server, or this one later, may give one.
        """
        asked = {"model": self._model, "prompt": prompt_ids, "n": 1, **settings}
        num_tokens = len(prompt_ids) + request.sampling.max_tokens
        last = ""
        for attempt in range(self.limits.attempts):
            if attempt:
                await asyncio.sleep(backoff(attempt))
            try:
                return read_choice(await self._server.post(request, asked, num_tokens))
            except (LostAnswerError, MalformedAnswerError) as error:
                last = str(error)
        raise EngineLostError(
            f"{self._server.url}: no usable answer in {self.limits.attempts} attempts; the last:"
            f" {last}"
        )

    # -- between the threads ------------------------------------------------------------

    def _run(self, job: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()

    def _start(self, key: int, job: Coroutine[Any, Any, Completion | Scored]) -> None:
        self._num_waiting += 1
        asyncio.run_coroutine_threadsafe(self._finish(key, job), self._loop)

    async def _finish(self, key: int, job: Coroutine[Any, Any, Completion | Scored]) -> None:
        try:
            self._finished.put((key, await job))
        except EngineError as error:
            self._finished.put((key, error))
        # Anything else is a bug; it must not leave a request without an answer.
        except Exception as error:
            is_ours = isinstance(error, OuroloopError)
            text = str(error) if is_ours else f"{type(error).__name__}: {error}"
            self._finished.put((key, EngineError(text)))
