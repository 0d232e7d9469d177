"""Hardware by name: `8xH100`, `1x24GB`, `cpu`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ouroloop.loop.errors import UserError


class Sheet(NamedTuple):
    """A data sheet: GB of memory, TB/s to it, dense bfloat16 TFLOP/s."""

    memory_gb: float
    bandwidth_tb: float
    tflops: float


# NVIDIA's data sheets; without sparsity.
SHEETS: Mapping[str, Sheet] = {
    "B200": Sheet(180, 8.0, 2250),
    "H200": Sheet(141, 4.8, 989),
    "H100": Sheet(80, 3.35, 989),
    "A100": Sheet(80, 2.04, 312),
    "L40S": Sheet(48, 0.864, 362),
    "RTX4090": Sheet(24, 1.008, 165),
    "A10": Sheet(24, 0.6, 125),
    "L4": Sheet(24, 0.3, 121),
}
EXPECTED = f"cpu, or NxDEVICE with a device of {', '.join(SHEETS)} or a size such as 24GB"


@dataclass(frozen=True)
class Hardware:
    """Devices of one kind.

    Attributes:
        name: as it was asked for.
        num_devices: how many; 1 for a CPU.
        memory: bytes of each; None: a CPU's, which is not looked at.
        sheet: None where only the size is known.
    """

    name: str
    num_devices: int
    memory: int | None
    sheet: Sheet | None

    @property
    def is_gpu(self) -> bool:
        """Whether there is a device."""
        return self.memory is not None


def parse(text: str) -> Hardware:
    """The hardware of that name.

    Raises:
        UserError: there is none.
    """
    if text.casefold() == "cpu":
        return Hardware("cpu", 1, None, None)
    found = re.fullmatch(r"([1-9]\d*)x(\w+)", text)
    if found is None:
        raise UserError(f"--hardware: got {text!r}; expected {EXPECTED}.")
    count, device = int(found[1]), found[2].upper()
    if size := re.fullmatch(r"(\d+)GB", device):
        return Hardware(text, count, int(size[1]) * 10**9, None)
    if device not in SHEETS:
        raise UserError(f"--hardware: {device} is not known; expected {EXPECTED}.")
    sheet = SHEETS[device]
    return Hardware(text, count, int(sheet.memory_gb * 1e9), sheet)
