"""Columns of names and texts whose codes are computed once, however often parts of them are read.

A round is read by two dozen monitors, family by family and slice by slice. Sorting the names of
every part anew was a third of all that measuring 10^5 samples took.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Objects = NDArray[np.object_]
Codes = tuple[list[str], Ints]


class Column(np.ndarray[Any, np.dtype[np.object_]]):
    """An array of objects, (N,), that remembers the codes of its strings.

    A part that a mask chose takes its codes from the whole. Writing into a column forgets them.
    """

    # The whole's labels and the rows' codes in them; the labels of a part may have gaps.
    _known: Codes | None
    _is_dense: bool

    @classmethod
    def of(cls, values: Objects) -> Column:
        """The same values, not copied."""
        return values if isinstance(values, Column) else np.asarray(values, object).view(cls)

    def __array_finalize__(self, source: Any) -> None:
        """Numpy makes a view or a part: it knows no codes yet."""
        self._known, self._is_dense = None, False

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **others: Any) -> Any:
        """What is computed from a column is an ordinary array."""
        plain = [np.asarray(x) if isinstance(x, Column) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **others)

    def __getitem__(self, key: Any) -> Any:
        """A part by a mask inherits the codes."""
        found = super().__getitem__(key)
        if isinstance(found, Column) and _is_mask(key):
            labels, code_N = self._whole()
            found._known = labels, code_N[np.asarray(key)]
        return found

    def __iter__(self) -> Iterator[Any]:
        """The values, without a call of ours for each."""
        return iter(self.tolist())

    def __setitem__(self, key: Any, value: Any) -> None:
        """The codes are no longer those of the values."""
        self._known = None
        super().__setitem__(key, value)

    def codes(self) -> Codes:
        """See `codes`."""
        labels, code_N = self._whole()
        if not self._is_dense:
            self._known = _dense(labels, code_N)
            self._is_dense = True
        return self._known or (labels, code_N)

    def _whole(self) -> Codes:
        if self._known is None:
            self._known, self._is_dense = _sorted_codes(self), True
        return self._known


def codes(values: Objects) -> Codes:
    """Sorted distinct strings and each row's index into them.

    -1 for anything that is no string (missing).
    """
    return values.codes() if isinstance(values, Column) else _sorted_codes(values)


def is_among(values: Objects, chosen: Collection[str]) -> Bools:
    """Which rows hold one of these strings, (N,)."""
    labels, code_N = codes(values)
    # One more at the end: the code -1, of rows without a string, finds it there.
    chosen_L = np.array([*(label in chosen for label in labels), False], dtype=bool)
    return np.asarray(chosen_L[code_N], dtype=bool)


def indexed(values: Objects, known: Collection[str]) -> Ints:
    """Each row's place in `known`, (N,); -1 where its string is not there, or it has none."""
    place = {label: i for i, label in enumerate(known)}
    labels, code_N = codes(values)
    place_L = np.array([*(place.get(label, -1) for label in labels), -1], dtype=np.int64)
    return np.asarray(place_L[code_N], dtype=np.int64)


def counts(values: Objects) -> dict[str, int]:
    """How often each string occurs."""
    labels, code_N = codes(values)
    num_L = np.bincount(code_N[code_N >= 0], minlength=len(labels))
    return dict(zip(labels, num_L.tolist(), strict=True))


def distinct(fields: Sequence[NDArray[Any]]) -> Ints:
    """A number for each row, (N,), equal where all fields are; 0, 1, ... without gaps.

    Field by field: sorting whole rows would compare them byte by byte.
    """
    number_N = np.zeros(len(fields[0]), dtype=np.int64)
    for values in fields:
        rank_N = np.unique(values, return_inverse=True)[1].ravel()
        joint_N = number_N * (int(rank_N.max(initial=0)) + 1) + rank_N
        number_N = np.unique(joint_N, return_inverse=True)[1].ravel().astype(np.int64)
    return number_N


def _is_mask(key: Any) -> bool:
    return isinstance(key, np.ndarray) and key.dtype.kind == "b"


def _sorted_codes(values: Objects) -> Codes:
    rows = values.tolist()
    index: dict[object, int] = dict.fromkeys(rows, -1)
    labels = sorted(value for value in index if isinstance(value, str))
    index.update(zip(labels, range(len(labels)), strict=True))
    return labels, np.fromiter(map(index.__getitem__, rows), dtype=np.int64, count=len(rows))


def _dense(labels: list[str], code_N: Ints) -> Codes:
    """The same codes without the labels that no row has."""
    # One more in front for the code -1.
    is_there_L = np.bincount(code_N + 1, minlength=len(labels) + 1)[1:] > 0
    if is_there_L.all():
        return labels, code_N
    new_L = np.append(np.cumsum(is_there_L) - 1, -1)
    return [labels[i] for i in np.flatnonzero(is_there_L)], new_L[code_N]
