"""Canonicalisers that read the calculations as a plan.

`Dataflow` compares samples of one question, `Plan` those of different questions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement

from ouroloop.monitors.arith.calculations import Calculation, calculations, stated_problem
from ouroloop.monitors.arith.expressions import Number, Product, Sum
from ouroloop.monitors.arith.quantities import Givens, givens
from ouroloop.monitors.strategies.answers import answer_amount
from ouroloop.monitors.strategies.dataflow import Flow, Form, unsigned

MAX_OPERANDS = 6
"""Given numbers that may be taken apart by place, at most: their pairs are all tried."""


@dataclass(frozen=True)
class Dataflow:
    """The expression that leads to the answer, over the question's numbers.

    "g1" is the first of the givens, "c7" a constant.

    Two texts have the same name when they combine the same givens by the same operations. Order,
    wording, units, steps written apart or together, x/2 and x*0.5, 40 % and 40/100, factors of one,
    the direction of a difference, idle side calculations and wrong results do not count: a wrong
    result is followed as it was claimed. Distributing does count: (a+b)*c is another plan than
    a*c+b*c.
    """

    name: str = "dataflow"

    def __call__(self, question: str, text: str) -> str | None:
        """The expression of the last calculation that gives the answer, else of the last one."""
        steps = calculations(text)
        if not steps:
            return None
        numbers = givens(question)
        flow = Flow(
            lambda amount: _identity(numbers, amount),
            lambda amount: numbers.index(amount) is not None,
            numbers,
        )
        for step in steps:
            flow.add(step)
        return unsigned(flow.root(answer_amount(text))).name()


@dataclass(frozen=True)
class Plan:
    """The same expression with roles in place of numbers: one plan, one name, whatever the numbers.

    * G: a given.
    * c: a constant.
    * P: a given's part of some place (40 of 47).
    * D: its bare digit there (4 of 47).
    * K: an amount that is added and taken away again.

    What is done for place after place, or for item after item, is written once: the number of
    rounds is the size of the problem, not the plan. A carry is notation. A given is taken apart
    only when all its places are used.
    """

    name: str = "plan"

    def __call__(self, question: str, text: str) -> str | None:
        """The expression of the last calculation that gives the answer, else of the last one."""
        steps = calculations(text)
        if not steps:
            return None
        numbers = _read_numbers(question, text)
        aligned = _aligned(steps, numbers)
        # Either whole places are added, or one given part by part: not both.
        roles = {} if aligned else _portions(steps, numbers)
        detours = _detours(steps)
        # Last: an amount that comes and goes is a detour whatever else it may be.
        roles |= dict.fromkeys(detours, "K")

        def leaf(amount: Fraction) -> tuple[int, str]:
            known = numbers.index(amount) is not None
            is_one_over = amount.numerator == 1 and amount != 1
            if is_one_over and not known:
                return -1, "c"
            return 1, roles.get(amount) or ("G" if known else "c")

        flow = Flow(
            leaf,
            lambda amount: numbers.index(amount) is not None,
            numbers,
            distinct=True,
            meant=detours,
        )
        for index, step in enumerate(steps):
            form = None
            if index in aligned:
                form = Form("leaf", ((1, aligned[index]),))
            flow.add(step, form)
        return unsigned(flow.root(answer_amount(text))).name(distinct=True)


def _identity(numbers: Givens, amount: Fraction) -> tuple[int, str]:
    """A number's name in `Dataflow`, with exponent -1 when it is one over something."""
    index = numbers.index(amount)
    if index is not None:
        return 1, f"g{index}"
    if amount > 0 and amount.numerator == 1 and amount.denominator > 1:
        return -1, _identity(numbers, 1 / amount)[1]
    return 1, f"c{amount}"


def _read_numbers(question: str, text: str) -> Givens:
    """The question's numbers, and those of a text that opens by writing the problem in signs.

    The latter count as given too, since a text may misread the question.
    """
    numbers = givens(question)
    values = dict.fromkeys([*numbers.values, *stated_problem(text)])
    return Givens(tuple(values), numbers.percents)


def _terms(step: Calculation) -> list[tuple[int, Fraction]]:
    """The terms of a plain sum, with signs; [] for anything else."""
    if not isinstance(step.tree, Sum):
        return []
    parts = step.tree.terms
    numbers = [(sign, part.value) for sign, part in parts if isinstance(part, Number)]
    return numbers if len(numbers) == len(parts) else []


def _factors(step: Calculation) -> list[Fraction]:
    """The numbers that a plain product multiplies; [] for anything else."""
    if not isinstance(step.tree, Product):
        return []
    parts = step.tree.factors
    if not all(isinstance(part, Number) for _, part in parts):
        return []
    return [part.value for sign, part in parts if isinstance(part, Number) and sign > 0]


def _digits(amount: Fraction) -> list[int]:
    """The digits of a whole number of two to nine digits, ones first; [] for any other number."""
    if amount.denominator != 1 or not 10 <= amount < 10**9:
        return []
    return [int(digit) for digit in reversed(str(amount))]


def _aligned(steps: Sequence[Calculation], numbers: Givens) -> dict[int, str]:
    """The steps that add two givens place by place: index -> "D" or "P".

    {} unless every place of both is added. 7+5 and 4+3 (+1, a carry) of 47+35 are bare digits;
    40+30 and 7+5 are parts. Half of the places would not do: 5+4 is no sign that 55 and 64 are
    added.
    """
    sums: defaultdict[tuple[Fraction, ...], list[int]] = defaultdict(list)
    for index, step in enumerate(steps):
        sums[tuple(sorted(amount for sign, amount in _terms(step) if sign > 0))].append(index)
    # At most the last six, since all their pairs are tried.
    operands = [amount for amount in numbers.values if _digits(amount)][-MAX_OPERANDS:]
    for first, second in combinations_with_replacement(operands, 2):
        for role, scale in (("D", 1), ("P", 10)):
            found: dict[int, str] = {}
            places = _places(first, second, scale)
            for pair in places:
                wanted = [pair]
                if role == "D":
                    wanted.append(sorted([*pair, Fraction(1)]))  # with a carry
                those = (i for terms in wanted for i in sums.get(tuple(terms), ()))
                fitting = [i for i in those if i not in found]
                if fitting:
                    found[min(fitting)] = role
            if len(found) == len(places):
                return found
    return {}


def _places(
    first: Fraction,
    second: Fraction,
    scale: int,
) -> list[list[Fraction]]:
    """Of each place, ones first, the two digits times `scale` to the power of the place, sorted."""
    a, b = _digits(first), _digits(second)
    places = max(len(a), len(b))
    a, b = a + [0] * (places - len(a)), b + [0] * (places - len(b))
    return [
        sorted([Fraction(a[place] * scale**place), Fraction(b[place] * scale**place)])
        for place in range(places)
    ]


def _portions(steps: Sequence[Calculation], numbers: Givens) -> dict[Fraction, str]:
    """The parts of a given that is added part by part, each as "P".

    30 and 5, where 35 is added as 30 and then 5.
    """
    results = {step.amount for step in steps}
    added: Counter[Fraction] = Counter()
    for step in steps:
        # A result that is added on is no part of a given.
        plus = [amount for sign, amount in _terms(step) if sign > 0]
        added.update(amount for amount in plus if amount not in results)
    wholes = numbers.values[-MAX_OPERANDS:]
    portions: dict[Fraction, str] = {}
    for amount in wholes:
        parts = {
            Fraction(digit * 10**place) for place, digit in enumerate(_digits(amount)) if digit
        }
        if len(parts) > 1 and all(added[part] > (part in wholes) for part in parts):
            portions |= dict.fromkeys(parts - set(wholes), "P")
    return portions


def _detours(steps: Sequence[Calculation]) -> frozenset[Fraction]:
    """Amounts that one sum adds and a later one takes away, as they are or multiplied.

    An amount that is itself a result is none.
    """
    added: set[Fraction] = set()
    detours: set[Fraction] = set()
    multiples: dict[Fraction, set[Fraction]] = {}
    for step in steps:
        terms = _terms(step)
        for amount in (amount for sign, amount in terms if sign < 0):
            detours |= ({amount} | multiples.get(amount, set())) & added
        # After the check above: an amount must have been added before it is taken away.
        added |= {amount for sign, amount in terms if sign > 0}
        multiples.setdefault(step.amount, set()).update(_factors(step))
    return frozenset(detours - {step.amount for step in steps})
