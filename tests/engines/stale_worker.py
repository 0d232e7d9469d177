"""The real vLLM worker with safety measures taken out of it.

Those named in the file $OUROLOOP_TEST_BREAK, read at each load.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ouroloop.loop.engines import worker
from ouroloop.loop.engines.vllm_local import VllmBackend


def broken(what: str) -> bool:
    return what in Path(os.environ["OUROLOOP_TEST_BREAK"]).read_text(encoding="utf-8")


class StaleBackend(VllmBackend):
    def _reset_prefix_cache(self) -> None:
        if not broken("prefix cache"):
            super()._reset_prefix_cache()

    def _repack(self) -> None:
        if not broken("repack"):
            super()._repack()

    def _lora_request(self, checkpoint: Any) -> Any:
        if broken("adapter id"):
            self._num_adapters = 0
        return super()._lora_request(checkpoint)


worker.BACKENDS["vllm"] = StaleBackend

if __name__ == "__main__":
    worker.main()
