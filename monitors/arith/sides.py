"""What an equation is made of: its sides, and the chain that they stand in."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from ouroloop.monitors.arith.expressions import Number, Tree, spelling, value


@dataclass(frozen=True)
class Side:
    """One side of an equation.

    Attributes:
        tree: its expression.
        places: decimal places of a bare number as written.
        unit: the words after its last number.
        compact: written without blanks, 1/2.
        opening: the number that it starts with, if it does not start with a sign or a bracket.
    """

    tree: Tree
    places: int = 0
    unit: str = ""
    compact: bool = False
    opening: Fraction | None = None

    @property
    def is_number(self) -> bool:
        """A bare number, signed or not: nothing is calculated here."""
        return isinstance(self.tree, Number)

    def converts(self, other: Side) -> bool:
        """Whether `self = other` says an amount in other units: 1/2 hour = 30 minutes."""
        return bool(self.unit) and (self.is_number or (self.compact and self.unit != other.unit))

    @cached_property
    def values(self) -> tuple[Fraction, ...]:
        """The exact values: under each reading of its suffixes; () for a division by zero."""
        readings = (value(self.tree), value(self.tree, suffixes=False))
        return tuple(dict.fromkeys(amount for amount in readings if amount is not None))

    def __str__(self) -> str:
        return spelling(self.tree)


@dataclass(frozen=True)
class Chain:
    """`side = side = ...`.

    Attributes:
        sides: None for one that cannot be read; () when notes stand alone.
        notes: the texts of the calculator notes inside the chain.
    """

    sides: tuple[Side | None, ...]
    notes: tuple[str, ...] = ()
