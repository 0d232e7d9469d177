"""A tiny OpenAI-compatible server of the tests' own.

Answers by a Python function, fails where it is asked to, and remembers what it was asked.
"""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Http(ThreadingHTTPServer):
    # Of the default five waiting connections a busy machine resets the sixth.
    request_queue_size = 128


class Server:
    """`answer(body)` gives (text, finish reason) of a request's JSON body.

    `failures` are statuses to send first, one per request. An answer that is bytes is sent as it
    is, with status 200. `headers` go with every failure.
    """

    def __init__(self, answer, models=("teacher",), failures=(), key=None, headers=None):
        self.answer, self.models, self.failures, self.key = answer, models, list(failures), key
        self.headers = headers or {}
        self.asked: list[tuple[str, dict]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def reply(self, path, body, key):
        """(status, JSON) of one request."""
        if self.key and key != f"Bearer {self.key}":
            return 401, {"error": {"message": "wrong key"}}
        if path == "/v1/models":
            return 200, {
                "object": "list",
                "data": [
                    {"id": name, "object": "model", "created": 0, "owned_by": "test"}
                    for name in self.models
                ],
            }
        with self.lock:
            self.asked.append((path, body))
            if self.failures:
                return self.failures.pop(0), {"error": {"message": "asked to fail"}}
        if path not in ("/v1/completions", "/v1/chat/completions"):
            return 404, {"error": {"message": f"no such path: {path}"}}
        found = self.answer(body)
        if isinstance(found, bytes):
            return 200, found
        text, reason = found
        about = {"id": "x", "created": 0, "model": body["model"]}
        if path == "/v1/completions":
            return 200, {
                **about,
                "object": "text_completion",
                "choices": [{"index": 0, "text": text, "finish_reason": reason, "logprobs": None}],
            }
        message = {"role": "assistant", "content": text}
        return 200, {
            **about,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        }

    def counted(self, path, body, key):
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.reply(path, body, key)
        finally:
            with self.lock:
                self.at_once -= 1


@contextlib.contextmanager
def serving(server):
    """The server on a free loopback port while the block runs; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two packets, and the second would wait 40 ms for a delayed receipt.
        disable_nagle_algorithm = True

        def do_GET(self):
            self.send(*server.reply(self.path, {}, self.headers.get("Authorization")))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send(*server.counted(self.path, body, self.headers.get("Authorization")))

        def send(self, status, value):
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, given in server.headers.items() if status != 200 else ():
                self.send_header(name, given)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            # Whoever asked may have given up.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

        def log_message(self, *what):
            pass

    http = Http(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        http.shutdown()
        http.server_close()
