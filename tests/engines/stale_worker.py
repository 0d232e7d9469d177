"""The real workers with safety measures taken out of them.

Those named in the file $OUROLOOP_TEST_BREAK, read at each load. "simulate" there makes the
transformers engine round as bfloat16 does, in float32.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rounding import as_bfloat16

from ouroloop.loop.engines import worker
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.transformers_local import TransformersBackend
from ouroloop.loop.engines.vllm_local import VllmBackend


def broken(what: str) -> bool:
    return what in Path(os.environ["OUROLOOP_TEST_BREAK"]).read_text(encoding="utf-8")


class StaleBackend(VllmBackend):
    def _reset_prefix_cache(self) -> None:
        if not broken("prefix cache"):
            super()._reset_prefix_cache()

    def _reload(self, weights: Path) -> None:
        if not broken("reload"):
            super()._reload(weights)

    def _repack(self) -> None:
        if not broken("repack"):
            super()._repack()

    def _lora_request(self, checkpoint: Any) -> Any:
        if broken("no adapter"):
            return None
        return super()._lora_request(checkpoint)


class StaleTransformers(TransformersBackend):
    model: Any = None

    def load(self, checkpoint_path: Path) -> dict[str, Any]:
        if broken("reload") and self.model is not None:
            self.version = check_checkpoint(checkpoint_path).version
            return {"weight_version": self.version, "block_size": None}
        said = super().load(checkpoint_path)
        if broken("simulate"):
            self.model = as_bfloat16(self.model.float())
        return said


worker.BACKENDS["vllm"] = StaleBackend
worker.BACKENDS["transformers"] = StaleTransformers

if __name__ == "__main__":
    worker.main()
