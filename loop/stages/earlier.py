"""What earlier rounds kept, without their texts and tokens, which are read when they are drawn.

A run of a hundred rounds draws some hundred of a hundred thousand examples, and a row as Python
objects takes tens of kB. So what tells the rows apart is all that stays in memory: a hash of the
token ids and the strategy, some 100 bytes a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import blake2b
from sys import intern
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ouroloop.loop.folder import tables
from ouroloop.loop.folder.integrity import refuse_damaged_file
from ouroloop.loop.round import Round
from ouroloop.loop.rows import Example, Origin

IDS = ("prompt_token_ids", "completion_token_ids")
# Where a round remembers its own.
MEMORY = "kept"


@dataclass(frozen=True)
class Index:
    """The kept examples of one round.

    Attributes:
        keys_N: of each, a hash of its token ids: equal for what is the same for training.
        strategies_N: of each.
        sources_N: the name of who drafted each, see `sources.Source`.
        take: the examples at some places, in the order of the places.
    """

    keys_N: tuple[bytes, ...]
    strategies_N: tuple[str | None, ...]
    sources_N: tuple[str, ...]
    take: Callable[[Sequence[int]], list[Example]]


@dataclass(frozen=True)
class Kept:
    """The kept examples of one round; most rounds never ask for those of earlier ones."""

    read: Callable[[], Index]

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Kept:
        """Of examples that are in memory."""
        kept = [example for example in examples if example.origin == "kept"]
        keys = tuple(key_of(example) for example in kept)
        strategies = tuple(example.strategy for example in kept)
        sources = tuple(_source(example.sample_id) for example in kept)
        return cls(
            lambda: Index(keys, strategies, sources, lambda places: [kept[n] for n in places])
        )

    @classmethod
    def in_round(cls, round: Round) -> Kept:
        """Of a committed round."""
        found: Kept = round.memory.setdefault(MEMORY, cls(partial(_read, round)))
        return found

    @cached_property
    def index(self) -> Index:
        """What stays in memory; the table is read for it once."""
        return self.read()

    def places(self) -> Iterator[Place]:
        """Where each of them is."""
        return (Place(self, number) for number in range(len(self.index.keys_N)))


class Place(NamedTuple):
    """One of the kept examples of a round."""

    kept: Kept
    number: int

    @property
    def key(self) -> bytes:
        """See `Index.keys_N`."""
        return self.kept.index.keys_N[self.number]

    @property
    def strategy(self) -> str | None:
        """The example's."""
        return self.kept.index.strategies_N[self.number]

    @property
    def source(self) -> str:
        """Who drafted it."""
        return self.kept.index.sources_N[self.number]


def drawn(places: Sequence[Place], origin: Origin) -> list[Example]:
    """The examples at these places, in their order; each table is read once."""
    by_round: dict[int, list[int]] = {}
    for i, place in enumerate(places):
        # By identity: a round's `Kept` is one object (`Kept.in_round`), so this means the round.
        by_round.setdefault(id(place.kept), []).append(i)
    found: dict[int, Example] = {}
    for chosen in by_round.values():
        examples = places[chosen[0]].kept.index.take([places[i].number for i in chosen])
        found.update(zip(chosen, examples, strict=True))
    return [replace(found[i], origin=origin) for i in range(len(places))]


def key_of(example: Example) -> bytes:
    """A hash of what makes two examples the same for training."""
    return _key(np.array(example.prompt_token_ids + example.completion_token_ids, np.int64))


def _key(ids_T: np.ndarray) -> bytes:
    # 128 bits: of a million rows two that are unlike collide with a probability of 1e-27.
    return blake2b(ids_T.tobytes(), digest_size=16).digest()


def _read(round: Round) -> Index:
    path = round.folder / Round.examples.file
    if not path.exists():
        return Index((), (), (), lambda places: [])
    refuse_damaged_file(round.run, path)
    table = tables.read_columns(path, [*IDS, "strategy", "origin", "sample_id"])
    rows_N = np.flatnonzero(table.column("origin").to_numpy() == "kept")
    table = table.take(pa.array(rows_N))
    prompts, completions = (_lists(table.column(name)) for name in IDS)
    keys = tuple(_key(np.concatenate(pair)) for pair in zip(prompts, completions, strict=True))

    def take(places: Sequence[int]) -> list[Example]:
        # Places count the kept rows; the file also has replayed ones and demonstrations.
        return list(tables.read_table(path, Example, [int(rows_N[place]) for place in places]))

    sources = tuple(map(_source, table.column("sample_id").to_pylist()))
    return Index(keys, tuple(table.column("strategy").to_pylist()), sources, take)


def _source(sample_id: str | None) -> str:
    """ROUND/SOURCE/PROBLEM/INDEX: who drafted the sample."""
    # One object for each name: a long run has a few, and a hundred thousand rows.
    return intern((sample_id or "//").split("/")[1])


def _lists(column: pa.ChunkedArray) -> Iterator[np.ndarray]:
    """Each row's numbers, without Python objects for them."""
    array = column.combine_chunks()
    # int64 as in `key_of`: hashes are of bytes, and the same ids of another width would differ.
    values, offsets = array.values.to_numpy().astype(np.int64), array.offsets.to_numpy()
    return (values[offsets[i] : offsets[i + 1]] for i in range(len(array)))
