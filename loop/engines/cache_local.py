"""The keys and values of a batch under way, for sampling with plain transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of the cache with room for `SPARE` tokens to come.

    Without it, each token costs a copy of all before it.
    """

    SPARE = 32
    buffers: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append and return all keys and values, each `[batch, heads, length, dim]`."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.buffers or end > self.buffers[0].shape[-2]:
            old = (self.keys, self.values)
            self.buffers = tuple(
                new.new_empty(*new.shape[:-2], end + self.SPARE, new.shape[-1])
                for new in (key_states, value_states)
            )
            # Only now are the old tokens copied: once in SPARE steps, not at every one.
            if start:
                for buffer, there in zip(self.buffers, old, strict=True):
                    buffer[..., :start, :] = there
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[..., start:end, :] = new
        return self._show(end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Only keep these sequences."""
        end = self.get_seq_length()
        self.buffers = tuple(buffer[indices] for buffer in self.buffers)
        self._show(end)

    def _show(self, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        # Views, not copies; transformers reads them as if they were the whole layer.
        self.keys, self.values = (buffer[..., :end, :] for buffer in self.buffers)
        return self.keys, self.values


def roomy_cache(config: Any) -> DynamicCache:
    """The model's own kind of cache, in which plain layers have room to grow.

    Other layers, such as those with a sliding window, stay as they are.
    """
    cache = DynamicCache(config=config)
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
