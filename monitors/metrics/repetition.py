"""Repetition on the surface (M15): samples that end in a loop, and how well outputs compress."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import Estimate, mean, share
from ouroloop.monitors.metrics.readings import (
    Kind,
    at,
    by_family,
    equal_sizes,
    missing,
    no_right,
    reading,
)

KINDS: Mapping[Estimand, Kind] = {
    Estimand("repetition/loops"): ("share", "down"),
    Estimand("repetition/compression_all"): ("ratio", "none"),
    Estimand("repetition/compression_right"): ("ratio", "none"),
    Estimand("repetition/distinct_all"): ("share", "none"),
    Estimand("repetition/distinct_right"): ("share", "none"),
}
LOOPS = next(iter(KINDS))
IN_BLOCKS = {estimand: kind for estimand, kind in KINDS.items() if estimand != LOOPS}
"""Those that depend on how many samples of a problem lie in one block."""
# A loop at the end shows in the last characters: 3 units of 200 and more fit in.
MAX_CHARS = 4_000
# Characters that a unit of a loop has at most.
LONGEST_UNIT = 200


@dataclass(frozen=True)
class Repetition:
    """How repetitive the texts are, whatever their length.

    * repetition/loops: share of samples whose end is one unit of at most 200 characters at least
      `repeats` times in a row, over at least `loop_chars` characters, [0, 1], down. Unbiased,
      clustered by problem.
    * repetition/compression_all@n, compression_right@n (right samples only): bytes / bytes after
      zlib, about [0.9, inf), neither way healthy; more is more repetitive.
    * repetition/distinct_all@n, distinct_right@n: different byte n-grams / all n-grams within the
      windows, (0, 1], neither way healthy.

    The last two grow or fall with the bytes and outputs they see, so they are measured on blocks of
    equal size: `num_windows` windows of `window_bytes` bytes, each from one output at a place set
    by a hash (an output that is shorter gives all it has, and the block is filled up with more
    outputs). All outputs of a problem lie in one block, and more of them repeat more, so their
    names give the number of samples (`num_samples` of each problem, or as many as the smaller of
    the two probes has). Every block has problems of its own, in an order set by a hash; blocks are
    averaged, t interval over blocks (none for one block). Measured on texts of 12, 24 and 48 random
    words: compression 2.063, 2.065, 2.066 (all 3,200 joined: 3.01, 3.06, 3.09; more text compresses
    better). Compression also sees what is alike across problems, such as a template. Measured
    (docs/validation/index.md, V2): the intervals held the truth in 94 to 98 % of 400 probe sets of
    120 problems x 8, and of 40 x 8. Undefined without texts, the last four also below one full
    block. Source: Shaib et al. 2403.00553 (compression ratio); equal lengths: Deshpande et al.
    2507.15092.
    """

    name: str = "repetition"
    repeats: int = 3
    loop_chars: int = 48
    window_bytes: int = 48
    num_windows: int = 64
    ngram_bytes: int = 8
    most_blocks: int = 64
    num_samples: int = 8

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`; of `reference` only how many samples a problem has."""
        size, some, _ = equal_sizes(view, reference, self.num_samples)
        kinds = at(IN_BLOCKS, size)
        probe, some = (p.where(codes(p.text)[1] >= 0) for p in (view.probe, some))
        if not len(probe):
            return missing({LOOPS: KINDS[LOOPS], **kinds}, "no probe sample has a text")
        # Each text is looked at once: all samples' share and the families' need it.
        loops = {text: self._is_loop(text) for text in codes(probe.text)[0]}

        def share_of_loops(rows: Samples) -> Estimate:
            labels, text_N = codes(rows.text)
            problem_N = codes(rows.problem)[1]
            hit_N = np.array([loops[text] for text in labels], dtype=float)[text_N]
            return share(np.bincount(problem_N, weights=hit_N), np.bincount(problem_N))

        about = {"families": by_family(probe, share_of_loops)}
        return [
            reading(LOOPS, share_of_loops(probe), "share", "down", "", about),
            *self._in_blocks(kinds, some),
        ]

    def _is_loop(self, text: str) -> bool:
        return ends_in_loop(text, self.repeats, self.loop_chars)

    def _in_blocks(self, kinds: Mapping[Estimand, Kind], rows: Samples) -> list[Reading]:
        """Compression, then different n-grams; each of all rows, then of the right ones."""
        parts = [list(self.blocks(r)) for r in (rows, rows.where(rows.correct == 1))]
        need = f"fewer than {self.num_windows * self.window_bytes:,} bytes of text"
        sides = list(zip(parts, (need, no_right(rows) or need), strict=True))
        found = [(measure, *side) for measure in (compression, self._distinct) for side in sides]
        out = []
        for (name, kind), (measure, part, why) in zip(kinds.items(), found, strict=True):
            value = mean([measure(block) for block in part])
            out.append(reading(name, value, *kind, why, {"num_blocks": len(part)}))
        return out

    def blocks(self, rows: Samples) -> Iterator[list[bytes]]:
        """Windows of `rows`, in blocks of exactly num_windows * window_bytes bytes.

        A problem's outputs are all in one block.
        """
        size = self.num_windows * self.window_bytes
        block: list[bytes] = []
        done, room = 0, size
        problem = None
        # A full block ends only with its last problem: no problem may lie in two blocks, or the
        # blocks would depend on each other and the t interval over them would be too narrow.
        for name, key, text in _in_order(rows):
            if room == 0 and name != problem:
                yield block
                done, block, room = done + 1, [], size
            if done == self.most_blocks:
                return
            problem = name
            window = self._window(text, key)[:room]
            block.extend([window] if window else [])
            room -= len(window)
        if room == 0:
            yield block

    def _window(self, text: str, key: int) -> bytes:
        """`window_bytes` bytes of a text from a place set by its hash, or all that it has."""
        raw = text.encode(errors="replace")
        start = key % max(1, len(raw) - self.window_bytes + 1)
        return raw[start : start + self.window_bytes]

    def _distinct(self, block: list[bytes]) -> float:
        """Different byte n-grams over all n-grams that lie within the windows."""
        found = []
        for window in block:
            ends = range(self.ngram_bytes, len(window) + 1)
            found += [window[end - self.ngram_bytes : end] for end in ends]
        return len(set(found)) / len(found) if found else float("nan")


def _in_order(rows: Samples) -> Iterator[tuple[str, int, str]]:
    """(problem, hash of the text, text), problem by problem, both in the order of their hashes.

    One problem after the other: the blocks take a few hundred of them, however many there are.
    """
    problems, problem_N = codes(rows.problem)
    order_N = np.argsort(problem_N, kind="stable")
    bounds = np.append(0, np.cumsum(np.bincount(problem_N)))
    for place in sorted(range(len(problems)), key=lambda i: (_hash(problems[i]), problems[i])):
        mine = rows.text[order_N[bounds[place] : bounds[place + 1]]]
        for key, text in sorted((_hash(text), text) for text in mine):
            yield problems[place], key, text


def compression(block: list[bytes]) -> float:
    """Bytes of the windows, one a line, over their bytes after zlib at its highest level."""
    # A line break between windows: two of them must not read as one text.
    raw = b"\n".join(block)
    return len(raw) / len(zlib.compress(raw, 9))


def ends_in_loop(
    text: str,
    repeats: int = 3,
    least: int = 48,
) -> bool:
    """Whether the text ends in one unit again and again; the loop may be cut anywhere.

    Args:
        text: the text.
        repeats: so many times in a row at least.
        least: over so many characters at least.
    """
    text = text.rstrip()[-MAX_CHARS:]
    # The last 16 characters must come again one unit earlier: only those distances are tried.
    end = text[-16:]
    at = len(text) - len(end)
    if len(text) < least:
        return False
    for _ in range(LONGEST_UNIT):
        at = text.rfind(end, 0, at + len(end) - 1)
        period = len(text) - len(end) - at
        if at < 0 or period > LONGEST_UNIT:
            return False
        span = max(repeats * period, least)
        if span <= len(text) and text[-span:-period] == text[len(text) - span + period :]:
            return True
    return False


def _hash(text: object) -> int:
    """The same number for the same text, on every machine."""
    return int.from_bytes(
        hashlib.blake2b(str(text).encode(errors="replace"), digest_size=8).digest(),
        "big",
    )
