"""A server as vLLM's is, in token ids: bytes are tokens, and weights are a folder's name.

What a text's next token is, and how likely, follows from the weights by a hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LETTERS = b"abcdefgh"
STOP = 256
# The prompt that says how long an answer is, and all others.
LENGTH = 6


def fraction(*what: Any) -> float:
    digest = hashlib.sha256(repr(what).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def logprob(weights: str, before: Sequence[int], token: int) -> float:
    """Nats, from -2 to -0.1; of a small context, so that texts can be written down by hand."""
    return -0.1 - 1.9 * fraction(weights, tuple(before[-3:]), token)


def greedy(weights: str, prompt: Sequence[int], count: int) -> list[int]:
    """The most likely letters after a prompt."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(max(LETTERS, key=lambda letter: logprob(weights, ids, letter)))
    return ids[len(prompt) :]


def sampled(weights: str, prompt: Sequence[int], seed: int) -> list[int]:
    """A seed's own answer, whatever else is asked."""
    return [LETTERS[int(8 * fraction(weights, tuple(prompt), seed, n))] for n in range(LENGTH)]


@dataclass
class StudentServer:
    """Faults: `is_stale` keeps its weights whatever it is told; `keeps_cache` refuses to reset its
    prefix cache; without `in_dev_mode` the endpoints for both are missing; a `plain` one gives
    texts alone. `dies_after` so many completions it answers everything with status 500.
    """

    weights: str = "start"
    is_stale: bool = False
    keeps_cache: bool = False
    in_dev_mode: bool = True
    is_plain: bool = False
    dies_after: int = 10**9
    context: int = 128
    asked: list[dict[str, Any]] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked += [body] if path == "/v1/completions" else []
        # To everything: weights that a dead server took would be gone when it comes back.
        if len(self.asked) > self.dies_after:
            return 500, {"error": {"message": "the engine is dead"}}
        if path == "/v1/models":
            named = {"id": "student", "object": "model", "max_model_len": self.context}
            return 200, {"object": "list", "data": [{**named, "created": 0, "owned_by": "test"}]}
        if path == "/v1/completions":
            return self.complete(body)
        self.told.append((path, body))
        if path == "/v1/load_lora_adapter":
            self.adapters[body["lora_name"]] = Path(body["lora_path"]).name
            return 200, {}
        if not self.in_dev_mode:
            return 404, {"detail": "Not Found"}
        if path == "/server_info":
            cache = {"block_size": 4, "enable_prefix_caching": True}
            return 200, {"vllm_config": {"cache_config": cache}}
        if path == "/reset_prefix_cache":
            return 200, {"success": not self.keeps_cache}
        if body["method"] == "reload_weights" and not self.is_stale:
            self.weights = Path(body["kwargs"]["weights_path"]).name
        return 200, {"results": [None]}

    def complete(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        weights = self.adapters.get(body["model"], self.weights)
        prompt, most = body["prompt"], body["max_tokens"]
        if len(prompt) + most > self.context:
            return 400, {"error": {"message": "This model's maximum context length is 128"}}
        if body["temperature"] == 0:
            ids, reason = greedy(weights, prompt, most), "length"
        else:
            ids, reason = [*sampled(weights, prompt, body["seed"]), STOP], "stop"
        choice: dict[str, Any] = {
            "index": 0,
            "text": bytes(i for i in ids if i != STOP).decode(),
            "finish_reason": reason,
        }
        if not self.is_plain:
            values = [logprob(weights, [*prompt, *ids[:n]], token) for n, token in enumerate(ids)]
            choice |= {"token_ids": ids, "logprobs": {"token_logprobs": values}}
            if "prompt_logprobs" in body:
                choice["prompt_logprobs"] = [
                    None,
                    *map(self.position(weights, prompt), range(1, len(prompt))),
                ]
        return 200, {"id": "x", "object": "text_completion", "created": 0, "choices": [choice]}

    @staticmethod
    def position(weights: str, prompt: list[int]) -> Any:
        def at(n: int) -> dict[str, Any]:
            value = logprob(weights, prompt[:n], prompt[n])
            # The text's own token is far from the most likely ones, which share half of the rest.
            return {
                str(prompt[n]): {"logprob": value, "rank": 99, "decoded_token": "x"},
                "300": {"logprob": -0.7, "rank": 1, "decoded_token": "y"},
            }

        return at


class Server(ThreadingHTTPServer):
    # More connections at once than the five that it would let wait.
    request_queue_size = 256


@contextlib.contextmanager
def serving(server: StudentServer, port: int = 0) -> Iterator[str]:
    """The server on a loopback port while the block runs; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two packets, and the second would wait 40 ms for a delayed receipt.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}"))

        def answer(self, body: dict[str, Any]) -> None:
            status, value = server.reply(self.path.partition("?")[0], body)
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

        def log_message(self, *what: Any) -> None:
            pass

    http = Server(("127.0.0.1", port), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1#student"
    finally:
        http.shutdown()
        http.server_close()
