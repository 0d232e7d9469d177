"""What a number is a number of. An `Estimand` is the only identity of a number in the project."""

from __future__ import annotations

from dataclasses import dataclass

EVERY = "all"
"""All families, or all slices, together."""
OTHERS = "others"
"""Every family but the main one, together."""
GREEDY = "greedy"
"""One greedy answer per problem."""
PROBE = "probe"
"""All samples of the probe set that the round has, at the probe's temperature."""
SECOND_HALF = f"{PROBE}/second_half"
"""The probe's samples without those that something was picked on.

They are the second half in the round whose samples were picked on, and all in another round.
"""
RESERVED = frozenset({EVERY, OTHERS})
"""No family and no slice may have these names: its numbers would have the ids of other numbers."""
SEPARATOR = ":"


@dataclass(frozen=True, order=True)
class Estimand:
    """Statistic, and the problems and samples that it is taken over.

    Two numbers with equal estimands in one round are equal; two numbers that can differ have
    different estimands. Whatever shows a number (table, chart, sentence, tracker) looks it up by
    its estimand, and derives the label from it.

    Attributes:
        statistic: which functional, with its parameters: "accuracy/pass@4", "diversity/dcp". A
            statistic whose expectation depends on the number of samples per problem names that
            number: "calibration/overconfidence@8".
        family: the problems' family, `EVERY` or `OTHERS`.
        slice: "typical", "tail", or `EVERY`.
        samples: which samples: `PROBE`, `GREEDY`, "pool" (this round's training samples), "texts",
            "audit", "critiques", or a named part of one ("probe/second_half").
    """

    statistic: str
    family: str = EVERY
    slice: str = EVERY
    samples: str = PROBE

    def __post_init__(self) -> None:
        """Refuse parts of our own making that could not be read back from the id.

        Families and slices are other people's labels, so any text will do: the id escapes them.

        Raises:
            ValueError: the statistic or the samples are empty or hold the separator.
        """
        for name in ("statistic", "samples"):
            part = getattr(self, name)
            if not part or SEPARATOR in part:
                raise ValueError(
                    f"Estimand.{name}: got {part!r}; expected a name without {SEPARATOR!r}."
                )

    @property
    def id(self) -> str:
        """The parts joined by colons, defaults at the end left out: "diversity/dcp:sum2"."""
        parts = [self.statistic, _escaped(self.family), _escaped(self.slice), self.samples]
        # A statistic has no default, so the loop below always stops.
        defaults = [None, EVERY, EVERY, PROBE]
        while parts[-1] == defaults[len(parts) - 1]:
            parts.pop()
        return SEPARATOR.join(parts)

    @classmethod
    def parse(cls, text: str) -> Estimand:
        """The estimand of an id.

        Raises:
            ValueError: not an id.
        """
        parts = text.split(SEPARATOR)
        if not 1 <= len(parts) <= 4:
            raise ValueError(f"{text!r} is no estimand id: expected 1 to 4 parts.")
        labels = [_unescaped(part) for part in parts[1:3]]
        return cls(parts[0], *labels, *parts[3:])


def _escaped(label: str) -> str:
    """The label without a separator in it, and never empty."""
    return label.replace("%", "%25").replace(SEPARATOR, "%3A") or "%"


def _unescaped(text: str) -> str:
    return "" if text == "%" else text.replace("%3A", SEPARATOR).replace("%25", "%")
