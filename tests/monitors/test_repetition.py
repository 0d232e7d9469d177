import dataclasses
import time

import numpy as np
import pytest
from simulated_panel import samples

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.metrics.repetition import Repetition, compression, ends_in_loop


def brute(text, repeats=3, least=48, longest=200):
    """By definition: some period of the end, over the needed span."""
    text = text.rstrip()
    for period in range(1, longest + 1):
        span = max(repeats * period, least)
        if span <= len(text):
            tail = text[-span:]
            if all(tail[i] == tail[i + period] for i in range(span - period)):
                return True
    return False


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("The answer is 12. " * 4, True),
        ("So 3 + 4 = 7. The answer is 7.", False),
        ("0" * 60, True),
        ("0" * 40, False),
        ("Start. " + "wait, I check again: " * 5 + "wait, I ch", True),
        ("ab" * 23, False),
        ("", False),
        ("x " * 30, True),
        ("The answer is 12. " * 4 + "Done, and here is one more long sentence.", False),
    ],
)
def test_texts_that_end_in_a_loop(text, loops):
    assert ends_in_loop(text) == brute(text) == loops


def test_loops_are_found_as_by_trying_every_period():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(1_500):
        unit = "".join(rng.choice(list("ab1 "), size=rng.integers(1, 70)))
        head = "".join(rng.choice(list("ab1 "), size=rng.integers(0, 80)))
        text = (head + unit * int(rng.integers(1, 6)))[: int(rng.integers(30, 400))]
        found += ends_in_loop(text)
        assert ends_in_loop(text) == brute(text), repr(text)
    assert 300 < found < 1_200


@pytest.mark.parametrize(
    "text",
    ["ab" * 100_000 + "c", ("a" * 15 + "b") * 9_000 + "a" * 16, "a" * 200_000, "\x00" * 50_000],
    ids=range(4),
)
def test_hostile_text_is_read_in_no_time(text):
    start = time.process_time()
    ends_in_loop(text)
    assert time.process_time() - start < 0.2


def written(rng, num_words, vocabulary=400, num=60, size=16):
    """A probe set whose texts are random words: the same kind of text at any length."""
    fixed = np.random.default_rng(1)
    words = [
        "".join(fixed.choice(list("abcdefghijklmnop"), size=fixed.integers(2, 9)))
        for _ in range(vocabulary)
    ]
    probe = samples(rng, num, size)
    return dataclasses.replace(
        probe,
        text=np.array(
            [" ".join(rng.choice(words, size=num_words)) for _ in range(len(probe))],
            dtype=object,
        ),
    )


def read(probe):
    return {r.name: r for r in Repetition(num_samples=16).measure(RoundView(0, probe), None)}


@pytest.mark.slow
def test_length_and_number_of_texts_alone_move_neither_compression_nor_distinct_ngrams():
    rng = np.random.default_rng(2)
    short, long, many = (
        read(written(rng, 12)),
        read(written(rng, 48)),
        read(written(rng, 24, num=120)),
    )
    for name in (
        "repetition/compression_all@16",
        "repetition/distinct_all@16",
        "repetition/compression_right@16",
        "repetition/distinct_right@16",
    ):
        assert short[name].value == pytest.approx(long[name].value, rel=0.01)
        assert short[name].value == pytest.approx(many[name].value, rel=0.01)
        assert (
            short[name].low < long[name].value < short[name].high
            or abs(short[name].value - long[name].value) < 0.01
        )
    joined = [compression([t.encode() for t in written(rng, n).text]) for n in (12, 48)]
    assert joined[1] > 1.02 * joined[0]


def test_a_smaller_vocabulary_reads_as_more_repetitive():
    rng = np.random.default_rng(3)
    rich, poor = read(written(rng, 24)), read(written(rng, 24, vocabulary=20))
    assert poor["repetition/compression_all@16"].low > rich["repetition/compression_all@16"].high
    assert poor["repetition/distinct_all@16"].high < rich["repetition/distinct_all@16"].low


def test_blocks_hold_equal_bytes_of_problems_of_their_own():
    monitor, probe = Repetition(), written(np.random.default_rng(4), 24)
    blocks = list(monitor.blocks(probe))
    assert len(blocks) > 5 and {sum(map(len, b)) for b in blocks} == {64 * 48}
    assert all(len(b) == 64 for b in blocks)
    of_text = dict(zip(probe.text, probe.problem, strict=True))
    seen = [
        {of_text[t] for w in block for t in probe.text if w.decode() in t} for block in blocks[:3]
    ]
    assert not seen[0] & seen[1] and not seen[1] & seen[2]


def test_loops_are_counted_and_short_probes_have_no_compression():
    probe = samples(np.random.default_rng(5), 10, 4)
    stuck = np.where(np.arange(40) % 4 == 0, "again and again " * 8, probe.text)
    readings = read(dataclasses.replace(probe, text=stuck))
    assert readings["repetition/loops"].value == 0.25
    assert (
        readings["repetition/compression_all@4"].status == "undefined"
        and "3,072 bytes" in readings["repetition/compression_all@4"].reason
    )
