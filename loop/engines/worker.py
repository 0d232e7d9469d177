"""The child process in which an engine lives: `python -m ouroloop.loop.engines.worker`.

Reads one JSON object per line from standard input, the first one {"kind": ..., "config": ...}, then
{"id", "op", ...}; answers each with {"id", "ok"} or {"id", "error", "message"} on a private copy of
standard output. While it works it writes {"beat": true}, and {"idle": ID} when it has answered all
messages up to that one: a parent that still waits for one of them has lost its answer.

Standard output itself is pointed at standard error (the log), so that a library's print cannot
corrupt the protocol. When the parent goes away, standard input ends and the whole process group
dies.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from ouroloop.loop.engines import heartbeat
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.errors import EngineError, OuroloopError, PromptTooLongError
from ouroloop.loop.records import Completion, Request, Sampling, Scored

# How long an idle backend waits after the first request for those sent together with it.
SETTLE_SECONDS = 0.005


class Backend(Protocol):
    """An engine library, driven step by step from one thread."""

    codec: Codec
    max_model_len: int

    def load(self, checkpoint_path: Path) -> dict[str, Any]:
        """Serve this checkpoint from now on.

        Says its weight_version and the prefix cache's block_size (None: no such cache).
        """
        ...

    def submit(self, key: int, request: Request, prompt_ids: list[int]) -> None:
        """Accept a request."""
        ...

    def submit_text(self, key: int, prompt_ids: list[int], completion_ids: list[int]) -> None:
        """Accept a text to be scored."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a step has something to do."""
        ...

    def step(self) -> list[tuple[int, Completion | Scored | EngineError]]:
        """Work a little; what finished by it."""
        ...

    def close(self) -> None:
        """Free what the process's end would not."""
        ...


def vllm_backend(config: Mapping[str, Any]) -> Backend:
    """Either build of vLLM."""
    from ouroloop.loop.engines.vllm_local import VllmBackend

    return VllmBackend(config)


def transformers_backend(config: Mapping[str, Any]) -> Backend:
    """Plain transformers."""
    from ouroloop.loop.engines.transformers_local import TransformersBackend

    return TransformersBackend(config)


def server_backend(config: Mapping[str, Any]) -> Backend:
    """One server that samples as the student."""
    from ouroloop.loop.engines.remote_student import ServerBackend

    return ServerBackend(config)


BACKENDS: dict[str, Callable[[Mapping[str, Any]], Backend]] = {
    "vllm": vllm_backend,
    "transformers": transformers_backend,
    "server": server_backend,
}


class Worker:
    """Answers messages with one backend."""

    def __init__(self, backend: Backend, out: TextIO):
        self.backend = backend
        self.out = out
        self.last_id = 0

    def run(self, inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
        """Serve until a `close` message.

        An exception from the backend's step ends the process: the parent quotes the log.
        """
        while True:
            # Idle: wait for a first request, then a little for those sent together with it, so that
            # they share the first batch. Busy: take what came in between two steps.
            if not self.backend.busy:
                if inbox.empty():
                    self.write({"idle": self.last_id})
                first = inbox.get()
                if not self.handle(first):
                    return
                time.sleep(SETTLE_SECONDS)
            while not inbox.empty():
                if not self.handle(inbox.get()):
                    return
            if self.backend.busy:
                for key, outcome in self.backend.step():
                    self.reply(key, outcome)
                heartbeat.beat()

    def handle(self, message: dict[str, Any]) -> bool:
        """Act on one message; False ends the process."""
        self.last_id = message["id"]
        if message["op"] == "close":
            self.backend.close()
            self.reply(message["id"], {})
            return False
        try:
            if message["op"] == "complete":
                self.submit(message["id"], message["request"])
            elif message["op"] == "score":
                pair = self.encode(message["prompt"], message["text"])
                self.submit_text(message["id"], *pair)
            elif message["op"] == "score_ids":
                ids = message["token_ids"]
                self.submit_text(message["id"], ids[:1], ids[1:])
            elif message["op"] == "load":
                self.reply(message["id"], self.backend.load(Path(message["checkpoint"])))
            elif message["op"] == "encode":
                self.reply(message["id"], self.encode_all(message["pairs"]))
            else:
                raise EngineError(f"unknown operation {message['op']!r}")
        except Exception as error:
            # An error of ours says all in its message; others need a traceback in the log.
            if not isinstance(error, OuroloopError):
                traceback.print_exc()
            self.reply(message["id"], error)
        return True

    def submit(self, key: int, fields: dict[str, Any]) -> None:
        """Tokenise and queue one request."""
        request = Request(
            fields["id"], fields["prompt"], Sampling(**fields["sampling"]), fields["seed"]
        )
        prompt_ids = self.backend.codec.prompt_ids(request.prompt)
        # Checked here because vLLM would cut the completion without a word.
        total, most = len(prompt_ids) + request.sampling.max_tokens, self.backend.max_model_len
        if total > most:
            raise PromptTooLongError(
                f"request {request.id}: a prompt of {len(prompt_ids)} tokens and max_tokens"
                f" {request.sampling.max_tokens} make {total}, over engine.max_model_len {most}."
                " Raise that, or lower max_tokens."
            )
        self.backend.submit(key, request, prompt_ids)

    def submit_text(self, key: int, prompt_ids: list[int], completion_ids: list[int]) -> None:
        """Queue one text.

        VLLM scores no text without sampling a token after it, so every engine asks for that room.
        """
        total, most = len(prompt_ids) + len(completion_ids) + 1, self.backend.max_model_len
        if total > most:
            raise PromptTooLongError(
                f"a text to be scored needs room for {total} tokens, over engine.max_model_len"
                f" {most}. Raise that."
            )
        self.backend.submit_text(key, prompt_ids, completion_ids)

    def encode(self, prompt: Any, text: str) -> tuple[list[int], list[int]]:
        """Token ids of one (prompt, completion) pair."""
        return self.backend.codec.prompt_ids(prompt), self.backend.codec.completion_ids(
            prompt, text
        )

    def encode_all(self, pairs: Sequence[tuple[Any, str]]) -> list[tuple[list[int], list[int]]]:
        """Token ids of many pairs, which may take a while."""
        encoded = []
        for prompt, text in pairs:
            encoded.append(self.encode(prompt, text))
            heartbeat.beat()
        return encoded

    def reply(self, key: int, outcome: Any) -> None:
        """Send one answer."""
        if isinstance(outcome, Completion | Scored):
            answer: dict[str, Any] = {"id": key, "ok": vars(outcome)}
        elif isinstance(outcome, Exception):
            known = isinstance(outcome, OuroloopError)
            answer = {
                "id": key,
                "error": type(outcome).__name__,
                "message": str(outcome) if known else f"{type(outcome).__name__}: {outcome}",
            }
        else:
            answer = {"id": key, "ok": outcome}
        self.write(answer)

    def write(self, line: Mapping[str, Any]) -> None:
        """Send one line. An answer begins with its id: so it is known even of one too long."""
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()


def _read_inbox(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        inbox.put(json.loads(line))
    end_group()


def end_group() -> None:
    """Kill this process and, where it leads a process group, everything in it.

    VLLM's helpers must not outlive the run.
    """
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Entry point of the child."""
    # The private copy carries the protocol; file descriptor 1 itself goes to the log, also for
    # libraries in C that print past sys.stdout.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.readline())
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_inbox, args=(inbox,), daemon=True).start()
    worker = Worker(BACKENDS[settings["kind"]](settings["config"]), out)
    limits = TimeLimits.of(settings["config"])
    heartbeat.begin(lambda: worker.write({"beat": True}), limits.silence_s)
    code = 0
    try:
        worker.run(inbox)
    except BaseException:
        traceback.print_exc()
        code = 1
    # Not sys.exit, nor Python's own end: threads of the libraries would keep the process alive.
    os._exit(code)


if __name__ == "__main__":
    main()
