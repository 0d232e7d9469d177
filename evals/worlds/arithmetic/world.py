"""Problems, splits and demonstrations of the arithmetic world. Pure functions of a seed; no torch.

Families: `sum2` (in-distribution: two-digit sums, every strategy applies), `sum3` (longer operands:
length generalisation, exposure bias), `missing` and `multibuy` (novel structures: one rare strategy
alone maps onto them), `copy`, `sort`, `compare` (unrelated skills: general ability).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ouroloop.evals.tasks import Problem, Prompts
from ouroloop.evals.worlds.arithmetic import strategies as st

PROMPTS = Prompts(
    draft="{question}\nA:\n",
    critique="{question}\nA:\n{draft}\nC:\n",
    revise="{question}\nA:\n{draft}\nC:\n{critique}\nR:\n",
    direct="{question}\nA:\n{draft}\nR:\n",
    approve="right",
    reject="wrong",
    verdict="{finding} {verdict}",
)

FAMILIES = ("sum2", "sum3", "missing", "multibuy", "copy", "sort", "compare")
SKILLS = ("copy", "sort", "compare")
# How often demonstrations use each strategy where it applies.
STRATEGY_WEIGHTS = {"column": 0.38, "split": 0.28, "compensate": 0.18, "jump": 0.16}

# Hash buckets (per cent) of the operands. Two splits never share a pair of numbers, whatever the
# wording or the order.
SPLITS = {"pretrain": (0, 50), "train": (50, 75), "reserve": (75, 80), "heldout": (80, 100)}

NAMES = ("Tom", "Ana", "Ben", "Eva", "Sam", "Mia", "Leo", "Zoe")
THINGS = ("apples", "coins", "books", "cards", "shells", "pens")
_TEMPLATES = {
    "sum": (
        "{name} has {a} {thing} and gets {b} more. How many in all?",
        "There are {a} {thing} here and {b} there. How many in all?",
        "{name} finds {a} {thing}, then {b}. What is the total?",
        "Add {a} and {b}.",
    ),
    "missing": (
        "{name} has {a} {thing} and wants {b}. How many are missing?",
        "What must be added to {a} to get {b}?",
    ),
    "multibuy": (
        "{name} buys {b} {thing} for {a} each. What is the cost?",
        "One costs {a}. What do {b} cost?",
    ),
    "copy": ("Copy the digits {a}.",),
    "sort": ("Sort the digits {a}.",),
    "compare": ("Which is larger, {a} or {b}?",),
}


# Drawing the world's problems asks for 87,000 pairs, most of them several times over.
@lru_cache(maxsize=2**16)
def split_of(family: str, a: int, b: int) -> str:
    """The split that a pair of numbers belongs to.

    By hash, blind to order, so that no split sees another's pair.
    """
    # sum2 and sum3 share their buckets: 47+35 may not be practised in one and held out in the
    # other.
    kind = "sum" if family.startswith("sum") else family
    key = f"{kind}:{min(a, b)}:{max(a, b)}"
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    return next(name for name, (low, high) in SPLITS.items() if low <= bucket < high)


def draw(family: str, split: str, rng: random.Random) -> Problem:
    """One random problem of a family whose numbers lie in `split`."""
    while True:
        a, b = _operands(family, rng)
        if split_of(family, a, b) == split:
            return problem(family, a, b, rng)


def problem(family: str, a: int, b: int, rng: random.Random) -> Problem:
    """The problem of these numbers in a random wording. Its id is a hash of the question."""
    template = rng.choice(_TEMPLATES["sum" if family.startswith("sum") else family])
    question = template.format(name=rng.choice(NAMES), thing=rng.choice(THINGS), a=a, b=b)
    answer = _answer(family, a, b)
    # The tail: a carry from the ones, and a result of three digits.
    tail = family == "sum2" and a % 10 + b % 10 >= 10 and a + b >= 100
    # The wording is part of it: two wordings of one sum are two problems.
    identity = hashlib.sha256(f"{family}:{question}".encode()).hexdigest()[:12]
    return Problem(
        f"{family}-{identity}",
        question,
        str(answer),
        family,
        "tail" if tail else "typical",
        metadata={"a": a, "b": b},
    )


def pick_strategy(family: str, a: int, rng: random.Random) -> str:
    """A strategy that applies, by the world's weights."""
    names = [name for name in st.STRATEGIES[family] if st.applies(name, family, a)]
    return rng.choices(names, [STRATEGY_WEIGHTS[name] for name in names])[0]


def demonstrate(item: Problem, strategy: str | None) -> str:
    """A right trace. Skills have no strategy: their trace is the answer alone."""
    if strategy is None:
        return f"answer {item.answer}"
    a, b = item.metadata["a"], item.metadata["b"]
    return st.render(
        st.head(item.family, a, b), *st.write(st.STRATEGIES[item.family][strategy](a, b))
    )


@dataclass(frozen=True)
class Demonstration:
    """One pretraining row: pieces of text, and whether the model learns to write each.

    A stop token follows the last.

    A draft alone: question, trace. With critique and perhaps revision: question, trace, critique (,
    revision).
    """

    family: str
    pieces: tuple[tuple[str, bool], ...]


def demonstrations(
    split: str, seed: int, talk: float, family_mix: dict[str, float], slips: float = 0.0
) -> Iterator[Demonstration]:
    """An endless stream of demonstrations.

    Args:
        split: whose numbers are used.
        seed: same seed, same stream.
        talk: share of rows in which the trace is criticised (six in ten of those traces hold a
            slip), and revised when it is wrong.
        family_mix: weight of each family.
        slips: share of slips among the traces that are learnt from, as in text that people wrote:
            a model of it errs where it could be right.
    """
    rng = random.Random(seed)
    while True:
        family = rng.choices(list(family_mix), list(family_mix.values()))[0]
        item = draw(family, split, rng)
        question = (PROMPTS.draft.format(question=item.question), True)
        if family in SKILLS:
            yield Demonstration(family, (question, (demonstrate(item, None), True)))
            continue
        strategy = pick_strategy(family, item.metadata["a"], rng)
        right = demonstrate(item, strategy)
        talks = rng.random() < talk
        # A critic that sees mostly right traces learns to approve.
        wrong = rng.random() < (0.6 if talks else slips)
        trace = slip(item, strategy, rng) if wrong else right
        if not talks:
            yield Demonstration(family, (question, (trace, True)))
            continue
        # A slip that is there to be criticised is read, and only sometimes learnt to be written.
        learnt = not wrong or rng.random() < slips
        critique = criticise(item, trace)
        pieces = [question, (trace, learnt), ("\nC:\n", False), (critique, True)]
        # Now and then a right trace is revised into itself: revising is not always changing.
        if wrong or rng.random() < 0.1:
            pieces += [("\nR:\n", False), (right, True)]
        yield Demonstration(family, tuple(pieces))


def criticise(item: Problem, draft: str) -> str:
    """The true critique: `what the line should be|what the draft has ok`.

    Up to the first line that differs, with `no`; then the verdict.

    Of a calculation the draft's value is repeated, of the other lines the numbers: `47+35|47+35
    ok,7+5=12|13 no: wrong`.
    """
    a, b = item.metadata["a"], item.metadata["b"]
    trace = st.parse(draft)
    reading = st.read(item.family, a, b, trace) if trace else st.Reading(None, 0)
    first = st.head(item.family, a, b)
    if trace is None or reading.strategy is None or reading.first_wrong == 0:
        read_as = draft.split("\n")[0][:24]
        return f"{first}|{read_as} {'ok,' if read_as == first else ''}no: wrong"
    values = [value for _, value in trace.steps]
    program = st.STRATEGIES[item.family][reading.strategy](a, b)

    # Up to the first wrong line the critique goes on from the draft's own values; there it says
    # what the value should be.
    def as_drafted(index: int, expression: str) -> int:
        drafted = index < len(values) and index + 1 != reading.first_wrong
        return values[index] if drafted else st.value_of(expression)

    lines = st.render(first, *st.write(program, as_drafted)).split("\n")
    drafted = [trace.head, *(str(value) for value in values), str(trace.answer)]
    if reading.first_wrong is None:
        return (
            ",".join(f"{line}|{had} ok" for line, had in zip(lines, drafted, strict=True))
            + ": right"
        )
    # A draft may have more or fewer lines than its strategy: compared up to the first wrong one.
    pairs = list(zip(lines, drafted, strict=False))[: reading.first_wrong + 1]
    return (
        ",".join(
            [*(f"{line}|{had} ok" for line, had in pairs[:-1]), f"{pairs[-1][0]}|{pairs[-1][1]} no"]
        )
        + ": wrong"
    )


def slip(item: Problem, strategy: str, rng: random.Random) -> str:
    """A wrong trace with one slip that the rest is honestly built on.

    A wrong value, a lost carry, a misread number or a wrong answer.
    """
    a, b = item.metadata["a"], item.metadata["b"]
    # A slip can come out right by accident (two errors that cancel): draw again then.
    while True:
        text = _slip_once(item.family, strategy, a, b, rng)
        trace = st.parse(text)
        if trace is not None and st.read(item.family, a, b, trace).first_wrong is not None:
            return text


def _slip_once(family: str, strategy: str, a: int, b: int, rng: random.Random) -> str:
    maker = st.STRATEGIES[family][strategy]
    # A misread number: everything after it is honest work on the wrong problem.
    if rng.random() < 0.15:
        a, b = (_near(a, rng), b) if rng.random() < 0.5 else (a, _near(b, rng))
        return st.render(st.head(family, a, b), *st.write(maker(a, b)))
    right, _ = st.write(maker(a, b))
    at = rng.randrange(len(right) + 1)
    lost_carry = rng.random() < 0.3

    def claim(index: int, expression: str) -> int:
        if index != at:
            return st.value_of(expression)
        return (
            st.value_of(expression) - 1
            if lost_carry and expression.count("+") == 2
            else _near(st.value_of(expression), rng)
        )

    steps, answer = st.write(maker(a, b), claim)
    if at == len(right):
        answer = _near(answer, rng)
    # The lost carry also leaves the expression: "4+3" where "4+3+1" was called for.
    elif lost_carry and steps[at][0].count("+") == 2:
        steps[at] = (steps[at][0].removesuffix("+1"), steps[at][1])
    return st.render(st.head(family, a, b), steps, answer)


def _near(value: int, rng: random.Random) -> int:
    """A plausible wrong number: one, two or ten off, or two digits swapped."""
    swapped = value
    if value >= 10:
        swapped = int(str(value)[::-1])
    options = [
        v
        for v in (value + 1, value - 1, value + 2, value - 2, value + 10, value - 10, swapped)
        if v >= 0 and v != value
    ]
    return rng.choice(options)


def _operands(family: str, rng: random.Random) -> tuple[int, int]:
    if family == "sum2":
        return rng.randint(11, 99), rng.randint(11, 99)
    if family == "sum3":
        return rng.randint(100, 999), rng.randint(100, 999)
    if family == "missing":
        # At least two missing, so that counting up has something to count.
        a = rng.randint(11, 88)
        return a, rng.randint(a + 2, 99)
    if family == "multibuy":
        # Just under a round price: rounding up pays, and no other strategy maps onto it.
        return rng.randint(1, 9) * 10 + rng.randint(7, 9), rng.randint(2, 9)
    if family == "compare":
        a, b = rng.sample(range(11, 999), 2)
        return a, b
    # No zeros: a leading one would vanish from the number.
    return int("".join(str(rng.randint(1, 9)) for _ in range(rng.randint(3, 5)))), 0


def _answer(family: str, a: int, b: int) -> int:
    match family:
        case "sum2" | "sum3":
            return a + b
        case "missing":
            return b - a
        case "multibuy":
            return a * b
        case "compare":
            return max(a, b)
        case "sort":
            return int("".join(sorted(str(a))))
        case _:
            return a
