"""Near duplicates: a held-out question in other clothes, among questions, solutions and texts.

Two texts of one template are different problems as long as their numbers differ. So a text counts
as a copy of a held-out question if both hold:

* every number of the question occurs in the text, as often, after or before the same word as in
  the question; numbers that follow each other within a clause do so there;
* at least `SHARE` of the question's word pairs occur in the text. Every number counts as the same
  word, and pairs do not cross clauses: a number in words, clauses in another order, a sentence
  before or after change few of them. In a question with numbers every name counts as the same word
  as well; without numbers a name may be all that it asks for ("the capital of France").

A share of the question's own pairs (containment, Broder 1997), not of both texts' (Jaccard): a copy
may stand in a long text. Exact, by an inverted index of the rarest pairs (prefix filtering,
Chaudhuri et al. 2006): what shares `SHARE` of a set shares one of its 1 - `SHARE` rarest members.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil

from ouroloop.evals.questions import visible
from ouroloop.monitors.arith.numbers import NUMBER_WORDS

SHARE = 0.85
"""Of a question's word pairs that a copy has at least: see docs/contamination.md for its choice."""
MIN_PAIRS = 4
"""A question of fewer word pairs says too little: only all of them make a copy."""

_SCALES = {"hundred": 100, "thousand": 1000}
# A number, a word, or a single sign.
_TOKEN = re.compile(
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|[^\W\d_]+(?:['’][^\W\d_]+)?|[^\s\w]"
)
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_CLAUSE_ENDS = frozenset('.,;:!?()[]{}"“”…|')
# No token looks like these.
NUMBER, NAME = "<number>", "<name>"
Pair = tuple[str, str]
# A number, "before" or "after", and the word there.
Beside = tuple[str, str, str]
# Digits of a number that a word may go on: "three hundred thousand" and no more.
MAX_JOINED = 6


@dataclass(frozen=True)
class Features:
    """What of a text is compared.

    Attributes:
        pairs: neighbouring words within a clause, with names as one word.
        literal: the same with names as they are.
        numbers: each number with how often it occurs.
        runs: numbers that follow each other within a clause.
        beside: (number, side, word) of each number and the words before and after it.
    """

    pairs: frozenset[Pair]
    literal: frozenset[Pair]
    numbers: Mapping[str, int]
    runs: frozenset[Pair]
    beside: frozenset[Beside]

    @property
    def asked(self) -> frozenset[Pair]:
        """The pairs that a copy of this question has."""
        return self.pairs if self.numbers else self.literal


def features(text: str) -> Features:
    """Of a question or any other text; linear in its length."""
    clauses = _clauses(_HYPHEN.sub(" ", visible(text)))
    names = _names(clauses)
    pairs: set[Pair] = set()
    literal: set[Pair] = set()
    numbers: Counter[str] = Counter()
    runs: set[Pair] = set()
    beside: set[Beside] = set()
    for clause in clauses:
        words, values = _words(clause)
        hidden = [NAME if word in names else word for word in words]
        numbers.update(values)
        literal |= set(pairwise(words))
        pairs |= set(pairwise(hidden))
        runs |= set(pairwise(values))
        beside |= set(_beside(hidden, values))
    return Features(
        pairs=frozenset(pairs),
        literal=frozenset(literal),
        numbers=numbers,
        runs=frozenset(runs),
        beside=frozenset(beside),
    )


# Found again by identity: a comparison of all questions would take longer than a search.
@dataclass(frozen=True, eq=False)
class Copies:
    """Held-out questions by their features, to be looked for in texts.

    Make it by `of`.
    """

    questions: tuple[str, ...]
    _features: tuple[Features, ...]
    _index: Mapping[tuple[Pair, str], tuple[int, ...]]
    _share: float = SHARE

    @classmethod
    def of(cls, questions: Iterable[str], share: float = SHARE) -> Copies:
        """An index of held-out questions; each is listed under few of its pairs."""
        return _indexed(tuple(dict.fromkeys(questions)), share)

    @classmethod
    def _made(cls, unique: tuple[str, ...], share: float) -> Copies:
        found = tuple(features(question) for question in unique)
        pairs = Counter(pair for each in found for pair in each.asked)
        numbers = Counter(number for each in found for number in each.numbers)
        index: dict[tuple[Pair, str], list[int]] = defaultdict(list)
        for place, each in enumerate(found):
            # With its rarest number: problems of one template differ in nothing else.
            number = min(each.numbers, key=lambda n: (numbers[n], n), default="")
            rarest = sorted(each.asked, key=lambda pair: (pairs[pair], pair))
            for pair in rarest[: len(rarest) - _least(len(rarest), share) + 1]:
                index[pair, number].append(place)
        return cls(unique, found, {key: tuple(at) for key, at in index.items()}, share)

    def find(self, text: str) -> str | None:
        """The first held-out question that `text` is a copy of, or that it holds."""
        return _found(self, text)

    def _search(self, text: str) -> str | None:
        given = features(text)
        asked = ("", *given.numbers)
        seen: set[int] = set()
        for pair in given.pairs | given.literal:
            for number in asked:
                seen.update(self._index.get((pair, number), ()))
        return next((self.questions[i] for i in sorted(seen) if self._is_copy(i, given)), None)

    def _is_copy(self, place: int, given: Features) -> bool:
        asked = self._features[place]
        has_numbers = all(given.numbers.get(n, 0) >= count for n, count in asked.numbers.items())
        if not has_numbers or not asked.runs <= given.runs:
            return False
        there = {number for number, _, _ in asked.beside & given.beside}
        if not {number for number, _, _ in asked.beside} <= there:
            return False
        words = given.pairs if asked.numbers else given.literal
        return len(asked.asked & words) >= _least(len(asked.asked), self._share)


# The setup of a run, of its check and of every arm of a study ask for the same questions' index.
@lru_cache(maxsize=4)
def _indexed(questions: tuple[str, ...], share: float) -> Copies:
    return Copies._made(questions, share)


# Every start of a run looks at all of its training problems, and most starts at the same ones.
@lru_cache(maxsize=1 << 13)
def _found(copies: Copies, text: str) -> str | None:
    return copies._search(text)


def _least(count: int, share: float) -> int:
    """How many of `count` pairs a copy has at least."""
    if count < MIN_PAIRS:
        return count
    return ceil(share * count - 1e-9)


def _clauses(text: str) -> list[list[str]]:
    """The words, numbers and signs of each clause."""
    clauses: list[list[str]] = [[]]
    for token in _TOKEN.findall(text):
        if token in _CLAUSE_ENDS:
            if clauses[-1]:
                clauses.append([])
            continue
        clauses[-1].append(token)
    return clauses


def _names(clauses: Iterable[list[str]]) -> frozenset[str]:
    """Words that are capitalised inside a clause: what people and places are called."""
    return frozenset(
        _bare(word)
        for clause in clauses
        for word in clause[1:]
        if word[0].isupper() and word != "I" and word.casefold() not in NUMBER_WORDS
    )


def _bare(word: str) -> str:
    """A word without case and possessive."""
    return word.casefold().replace("’", "'").removesuffix("'s")


def _words(clause: Iterable[str]) -> tuple[list[str], list[str]]:
    """(words with each number as one and the same, values of the numbers) of a clause."""
    words: list[str] = []
    values: list[str] = []
    for token in clause:
        word = token.casefold()
        if words[-1:] == [NUMBER] and (joined := _joined(values[-1], word)):
            values[-1] = joined
        elif (value := _value(word)) is not None:
            words.append(NUMBER)
            values.append(value)
        else:
            words.append(_bare(token))
    return words, values


def _beside(words: Sequence[str], values: Iterable[str]) -> Iterator[Beside]:
    """What stands before and after each number of a clause."""
    left = iter(values)
    for at, word in enumerate(words):
        if word != NUMBER:
            continue
        value = next(left)
        if at > 0:
            yield value, "before", words[at - 1]
        if at + 1 < len(words):
            yield value, "after", words[at + 1]


def _value(word: str) -> str | None:
    """A number's value, of digits or a word; None of anything else."""
    if word[0].isdecimal():
        whole, point, part = word.replace(",", "").partition(".")
        part = part.rstrip("0")
        # Text, not int: no limit of digits, and no time beyond linear.
        return (whole.lstrip("0") or "0") + (point + part if part else "")
    known = NUMBER_WORDS.get(word, _SCALES.get(word))
    return None if known is None else str(known)


def _joined(before: str, word: str) -> str | None:
    """The number that a number word makes of the one before it: twenty|one, three|hundred|five."""
    if len(before) > MAX_JOINED or not before.isdecimal():
        return None
    value = int(before)
    if word in _SCALES:
        return str(value * _SCALES[word]) if 0 < value < _SCALES[word] else None
    if word not in NUMBER_WORDS or value == 0 or NUMBER_WORDS[word] == 0:
        return None
    is_tens = value % 100 >= 20 and value % 10 == 0 and NUMBER_WORDS[word] < 10
    return str(value + NUMBER_WORDS[word]) if is_tens or value % 100 == 0 else None


# Where nothing is held out.
NO_COPIES = Copies.of(())
