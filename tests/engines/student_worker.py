"""The real worker for a server, with bytes for tokens: it needs no transformers."""

from __future__ import annotations

from typing import Any

from fake_worker import BytesCodec

from ouroloop.loop.engines import remote_student, worker


class Codec(BytesCodec):
    eos_token_id = 256
    stop_token_ids = frozenset({256})

    def text(self, prompt_ids: list[int], ids: list[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")


class ServerBackend(remote_student.ServerBackend):
    def codec_of(self, checkpoint: Any) -> Any:
        return Codec()


worker.BACKENDS["server"] = ServerBackend  # type: ignore[assignment]

if __name__ == "__main__":
    worker.main()
