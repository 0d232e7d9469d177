from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from ouroloop.evals.errors import DataError, SandboxError, SandboxTimeout
from ouroloop.evals.grading import grade
from ouroloop.evals.sandbox import Sandbox, _Worker

pytestmark = pytest.mark.slow


def alive() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


def test_a_result_comes_back_and_the_same_question_is_asked_once() -> None:
    with Sandbox("time:time_ns") as sandbox:
        first = sandbox.call()
        assert isinstance(first, int)
        assert sandbox.call() == first


def test_a_call_that_hangs_is_killed_in_time_and_the_next_call_works() -> None:
    with Sandbox("time:sleep", timeout_seconds=0.5) as sandbox:
        assert sandbox.call(0) is None
        before = alive()
        start = time.perf_counter()
        with pytest.raises(SandboxTimeout, match=r"0.5 s"):
            sandbox.call(60)
        with pytest.raises(SandboxTimeout):  # from the cache
            sandbox.call(60)
        assert time.perf_counter() - start < 5
        assert not (before & alive()), "the hanging worker must be dead"
        assert sandbox.call(0.01) is None
    assert not alive()


def test_a_worker_that_dies_is_an_error_and_is_replaced() -> None:
    with Sandbox("os:kill") as sandbox:
        sandbox.call(1, 0)  # signal 0 only asks whether process 1 exists
    with Sandbox("os:_exit") as sandbox:
        for status in (1, 2):
            with pytest.raises(SandboxError, match="died"):
                sandbox.call(status)
    assert not alive()


def test_a_function_that_raises_or_eats_memory_is_an_error() -> None:
    with Sandbox("builtins:int") as sandbox:
        with pytest.raises(SandboxError, match="ValueError"):
            sandbox.call("nonsense")
        assert sandbox.call("7") == 7
    with (
        Sandbox("operator:mul", memory_bytes=2**30) as sandbox,
        pytest.raises(SandboxError, match=r"MemoryError|died"),
    ):
        sandbox.call("x", 3 * 2**30)


def test_a_result_that_is_no_json_value_is_an_error() -> None:
    with Sandbox("builtins:object") as sandbox, pytest.raises(SandboxError, match="TypeError"):
        sandbox.call()


@pytest.mark.slow
def test_the_kernel_ends_a_worker_that_nobody_watches() -> None:
    worker = _Worker("math:factorial", 1.0, 4 * 2**30)
    worker.pipe.send_bytes(pickle.dumps((10**8,)))
    worker.process.join(30)
    assert worker.process.exitcode == -signal.SIGXCPU
    worker.kill()


def test_a_function_that_cannot_be_imported_is_a_users_error() -> None:
    with (
        Sandbox("no_such_library:compare") as sandbox,
        pytest.raises(DataError, match="no_such_library"),
    ):
        sandbox.call("1", "1")
    assert not alive()


def test_threads_share_a_sandbox() -> None:
    with Sandbox("builtins:pow", num_workers=2) as sandbox:
        found: dict[int, int] = {}
        threads = [
            threading.Thread(target=lambda n=n: found.update({n: sandbox.call(n, 2)}))
            for n in range(40)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {n: n * n for n in range(40)}
        assert len(alive()) <= 2


@pytest.fixture(scope="module")
def symbolic() -> Iterator[Sandbox]:
    pytest.importorskip("math_verify", reason="needs the extra `verify`")
    with Sandbox("ouroloop.evals.symbolic:same_expression", timeout_seconds=3) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("gold", "stated", "right"),
    [
        ("x^2+1", "1+x^2", True),
        ("x^2+1", "x^2-1", False),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        (r"3\pi", r"\pi + 2\pi", True),
        (r"3\pi", r"2\pi", False),
    ],
)
def test_expressions_are_compared_by_their_meaning(
    symbolic: Sandbox, gold: str, stated: str, right: bool
) -> None:
    got = grade(gold, f"The answer is ${stated}$", symbolic=symbolic)
    assert (got.correct, got.method) == (right, "symbolic")


def test_words_and_unfinished_sums_are_not_left_to_math_verify(symbolic: Sandbox) -> None:
    assert symbolic.call("abc", "cab") is True, "a product of letters: why words are kept from it"
    assert grade("abc", "The answer is cab", symbolic=symbolic).method == "exact"
    assert grade("82", "answer 47+35", symbolic=symbolic).correct is False


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    [
        "(9^(9^9))+x",
        "x^2+99999999!",
        "10^{10^{10}}+x",
        "9**9**9+x",
        "x+" * 60 + "x",
        "x^(9^9*9^9)",
        "(" * 90 + "x^2" + ")" * 90,
    ],
)
def test_a_hostile_expression_is_wrong_in_time_and_the_parent_lives(
    symbolic: Sandbox, hostile: str
) -> None:
    start = time.perf_counter()
    assert grade("x^2+1", f"The answer is {hostile}", symbolic=symbolic).correct is False
    assert time.perf_counter() - start < 20
    assert grade("x^2+1", "The answer is 1 + x^2", symbolic=symbolic).correct is True


@pytest.mark.slow
@pytest.mark.parametrize("slow", [r"\binom{99999999}{9999999}+x", "(x+1)^{999}-(x+2)^{998}"])
def test_what_no_pattern_foresees_ends_with_its_worker(slow: str) -> None:
    pytest.importorskip("math_verify", reason="needs the extra `verify`")
    others = alive()
    with Sandbox("ouroloop.evals.symbolic:same_expression", timeout_seconds=1) as sandbox:
        got = grade("x^2+1", f"The answer is ${slow}$", symbolic=sandbox)
    assert (got.correct, got.method) == (False, "symbolic timeout")
    assert alive() <= others
