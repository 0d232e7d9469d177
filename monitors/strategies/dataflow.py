"""The plan of a solution as one expression.

Results are replaced by what they were made of, numbers by where they come from.

`Dataflow` distinguishes the givens of a question and is for samples of the same question. `Plan`
knows only the roles of numbers and is for samples of different questions. Both are in `plans.py`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from ouroloop.monitors.arith.calculations import Calculation
from ouroloop.monitors.arith.expressions import Number, Product, Sum, Tree
from ouroloop.monitors.arith.quantities import Givens

# A sum of sums would double with every step of a hostile text (x+x, then that twice, ...): a part
# that makes it longer than this stays one term, and a longer name is replaced by its hash.
MAX_TERMS = 48
MAX_NAME = 160
_HUNDRED = Fraction(100)
# Factors that change nothing where a text writes a percentage.
_NEUTRAL = (Number(Fraction(1)), Number(_HUNDRED), Number(1 / _HUNDRED))

Kind = Literal["leaf", "sum", "product"]


@dataclass(frozen=True)
class Form:
    """A canonical expression.

    Attributes:
        kind: what it is.
        parts: (sign, name) of each term, (exponent, name) of each factor, or a leaf's own one.
    """

    kind: Kind
    parts: tuple[tuple[int, str], ...]

    def name(self, distinct: bool = False) -> str:
        """The parts sorted and spelled.

        `distinct`: a term that is added again and again is written once.
        """
        parts = sorted(self.parts)
        if distinct and self.kind == "sum":
            parts = sorted(set(parts))
        if len(parts) == 1 and parts[0][0] == 1:
            return _short(parts[0][1])
        signs = {1: "*", -1: "/"}
        if self.kind == "sum":
            signs = {1: "+", -1: "-"}
        spelled = "".join(signs[sign] + part for sign, part in reversed(parts))
        return _short(f"({spelled})")


Leaf = Callable[[Fraction], tuple[int, str]]
"""How a number that is no result is named: (exponent, name)."""


@dataclass
class Flow:
    """Builds the forms of a text's calculations in order, each upon the earlier ones.

    A number is the latest result of that value that is not used yet; else a given, if `known` says
    so; else a constant that the text has brought in before; else a result again, though not twice
    in one calculation (30+30 after one 30); else a new constant.

    Attributes:
        leaf: names a number that is no result.
        known: whether a number is a given.
        givens: the question's numbers.
        distinct: a term that is added again and again is written once.
        meant: numbers that are never notation, not even a factor of one.
        forms_: of each calculation so far.
        results_: the value that each claims.
        places_: which calculations claim a value.
        used_: which results a later calculation has used.
        constants_: those of the last calculation.
        introduced_: all constants so far.
        now_: results that the last calculation has used.
    """

    leaf: Leaf
    known: Callable[[Fraction], bool]
    givens: Givens
    distinct: bool = False
    meant: frozenset[Fraction] = frozenset()
    forms_: list[Form] = field(default_factory=list)
    results_: list[Fraction] = field(default_factory=list)
    places_: defaultdict[Fraction, list[int]] = field(default_factory=lambda: defaultdict(list))
    used_: set[int] = field(default_factory=set)
    constants_: list[Fraction] = field(default_factory=list)
    introduced_: set[Fraction] = field(default_factory=set)
    now_: set[int] = field(default_factory=set)

    def add(self, calculation: Calculation, form: Form | None = None) -> None:
        """Take the next calculation; `form` says what it is when its tree must not be read."""
        self.constants_, self.now_ = [], set()
        if form is None:
            tree = _without_identity(calculation.tree, calculation.amount, self.meant)
            form = self._form(tree)
        self.forms_.append(form)
        self.places_[calculation.amount].append(len(self.results_))
        self.results_.append(calculation.amount)

    def root(self, answer: Fraction | None) -> Form:
        """The last calculation that gives the answer, else the last one."""
        for result, form in zip(reversed(self.results_), reversed(self.forms_), strict=True):
            if result == answer:
                return form
        # It arrives at a given, 47+3=50 where 50 is given: its constants were looked for.
        if self.constants_ and self.known(self.results_[-1]):
            return self._joined(
                "sum",
                [(1, Form("leaf", (self.leaf(constant),))) for constant in self.constants_],
            )
        return self.forms_[-1]

    def _form(self, tree: Tree) -> Form:
        if isinstance(tree, Number):
            return self._number(tree.value)
        if isinstance(tree, Sum):
            return self._joined("sum", [(sign, self._form(part)) for sign, part in tree.terms])
        factors = list(self._factors(tree))
        if len(factors) == 1 and factors[0][0] == 1:
            return factors[0][1]
        return self._joined("product", factors)

    def _factors(self, tree: Product) -> Iterator[tuple[int, Form]]:
        """The factors less what is notation.

        3/5 where the question says so is one number, 40/100 is 40 %, a factor of one is nothing.
        """
        # Percent notation goes first: 40/100*x would else be read as a division.
        factors = _without_hundreds(tree.factors, self.givens)
        while factors:
            (sign, part), factors = factors[0], factors[1:]
            amount = part.value if isinstance(part, Number) else None
            ratio = None
            if sign > 0 and amount and factors:
                ratio = _over(amount, *factors[0])
            # First the pair, 3/5, then single factors: the other way round would split it.
            if ratio and ratio.denominator > 1 and self.known(ratio):
                yield 1, Form("leaf", (self.leaf(ratio),))
                factors = factors[1:]
            elif amount == 1 and amount not in self.meant:
                continue
            elif sign < 0 and amount and self.known(1 / amount) and not self._is_new(amount):
                yield 1, Form("leaf", (self.leaf(1 / amount),))
            else:
                yield sign, self._form(part)

    def _is_new(self, amount: Fraction) -> bool:
        """Whether this is a result that is not used yet."""
        return any(i not in self.used_ for i in self.places_.get(amount, ()))

    def _number(self, amount: Fraction) -> Form:
        matches = self.places_.get(amount, [])
        unused = [i for i in matches if i not in self.used_]
        again: list[int] = []
        # A second use is the weaker reading: a given or an earlier constant comes before it.
        if amount not in self.introduced_ and not self.known(amount):
            again = [i for i in matches if i not in self.now_]
        if unused or again:
            index = (unused or again)[-1]
            self.used_.add(index)
            self.now_.add(index)
            return self.forms_[index]
        if not self.known(amount):
            self.constants_.append(amount)
            self.introduced_.add(amount)
        return Form("leaf", (self.leaf(amount),))

    def _joined(self, kind: Kind, parts: Iterable[tuple[int, Form]]) -> Form:
        """A sum of sums is one sum, a product of products one product, up to `MAX_TERMS`."""
        # Names, not forms: a name is short, and a form could grow without bound.
        joined: list[tuple[int, str]] = []
        for sign, form in parts:
            simple = form.kind == "leaf" and (kind == "product" or form.parts[0][0] == 1)
            if (form.kind == kind or simple) and len(joined) + len(form.parts) <= MAX_TERMS:
                joined += [(sign * inner, name) for inner, name in form.parts]
            else:
                joined.append((sign, form.name(self.distinct)))
        if self.distinct and kind == "sum":
            joined = list(dict.fromkeys(joined))
        return Form(kind, tuple(joined) or ((1, "1"),))


def _over(
    amount: Fraction,
    sign: int,
    part: Tree,
) -> Fraction | None:
    """`amount` / `part` where the next factor divides by a number."""
    if sign > 0 or not isinstance(part, Number) or not part.value:
        return None
    return amount / part.value


def unsigned(form: Form) -> Form:
    """A difference without its direction: 60-140 and 140-60 ask for the same thing."""
    if form.kind != "sum":
        return form
    turned = Form("sum", tuple((-sign, name) for sign, name in form.parts))

    def more_added(candidate: Form) -> tuple[int, str]:
        return sum(sign for sign, _ in candidate.parts), candidate.name()

    # Of the two directions the one that adds more; of equal ones the later name, either way round.
    return max(form, turned, key=more_added)


def _without_hundreds(
    factors: Sequence[tuple[int, Tree]],
    givens: Givens,
) -> list[tuple[int, Tree]]:
    """The factors without the /100 or *0.01 beside a given percentage, and without 100*0.01."""
    kept: list[tuple[int, Tree]] = []
    for sign, part in factors:
        is_hundredth = part == Number(1 / _HUNDRED)
        kept.append((-sign, Number(_HUNDRED)) if is_hundredth else (sign, part))
    spare = kept.count((1, Number(_HUNDRED)))
    percents = sum(
        sign > 0 and isinstance(part, Number) and part.value in givens.percents
        for sign, part in kept
    )
    divisor = (-1, Number(_HUNDRED))
    # Each division by a hundred needs a reason of its own: a percentage, or a factor of a hundred.
    for _ in range(min(kept.count(divisor), spare + percents)):
        kept.remove(divisor)
        if spare:
            kept.remove((1, Number(_HUNDRED)))
            spare -= 1
    return kept


def _without_identity(
    tree: Tree,
    result: Fraction,
    meant: frozenset[Fraction],
) -> Tree:
    """221*100% = 221 or 221/1 = 221 changes nothing: the tree is the number itself."""
    if not isinstance(tree, Product):
        return tree
    if any(isinstance(part, Number) and part in map(Number, meant) for _, part in tree.factors):
        return tree
    for index, (sign, part) in enumerate(tree.factors):
        others = [other for _, other in tree.factors[:index] + tree.factors[index + 1 :]]
        if sign > 0 and part == Number(result) and all(other in _NEUTRAL for other in others):
            return part
    return tree


def _short(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    # The same hash for the same plan: still comparable, only not readable.
    return "~" + hashlib.sha256(name.encode()).hexdigest()[:16]
