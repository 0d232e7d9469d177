"""Arrays inside JSON, as base64 of little-endian numbers: a tenth of the digits' size."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(values: NDArray[Any]) -> str:
    """The numbers in single precision."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def unpacked(text: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """What `packed` gave.

    Raises:
        ValueError: not base64, or another number of values than the shape has.
    """
    flat = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    return flat.reshape(shape).astype(np.float64)


def as_kept(values: NDArray[Any]) -> NDArray[np.float64]:
    """The numbers as `unpacked` will give them: a resumed run must label as this one does."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)
