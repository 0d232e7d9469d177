"""How plain transformers draws a token.

Exact probabilities, cuts, and rows that do not look at their neighbours.
"""

from __future__ import annotations

import pytest

from ouroloop.loop.records import Sampling

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")

PROBABILITIES = [0.1, 0.4, 0.05, 0.25, 0.2]


def draw(sampling: Sampling, uniforms: list[float], seen: tuple[int, ...] = ()) -> list[int]:
    from ouroloop.loop.engines.transformers_local import Row, choose

    rows = [Row(list(seen), sampling, seed=0) for _ in uniforms]
    logits = torch.tensor([PROBABILITIES]).log().repeat(len(uniforms), 1)
    chosen: list[int] = choose(logits, rows, torch.tensor(uniforms, dtype=torch.float64)).tolist()
    return chosen


def shares(sampling: Sampling, seen: tuple[int, ...] = ()) -> list[float]:
    """The probability of each token, by an even grid of uniforms."""
    grid = [(i + 0.5) / 10_000 for i in range(10_000)]
    chosen = draw(sampling, grid, seen)
    return [chosen.count(token) / len(grid) for token in range(5)]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), PROBABILITIES),
        (Sampling(temperature=0.0), [0, 1, 0, 0, 0]),
        (Sampling(temperature=0.5), [p * p / 0.275 for p in PROBABILITIES]),
        (Sampling(top_k=2), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        (Sampling(top_p=0.5), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        (Sampling(top_p=0.3), [0, 1, 0, 0, 0]),
        (Sampling(min_p=0.3), [0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85]),
        (Sampling(top_k=4, top_p=0.85), [0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85]),
    ],
)
def test_every_token_has_its_exact_share(sampling: Sampling, expected: list[float]) -> None:
    assert shares(sampling) == pytest.approx(expected, abs=2e-4)


def test_a_penalty_counts_tokens_of_the_prompt_once() -> None:
    raised = [
        p * p if token == 1 else p for token, p in enumerate(PROBABILITIES)
    ]  # log p is negative: twice the log is the square
    expected = [p / sum(raised) for p in raised]
    assert shares(Sampling(repetition_penalty=2.0), seen=(1, 1)) == pytest.approx(
        expected, abs=2e-4
    )


def test_the_ends_of_the_unit_interval_draw_tokens_that_were_kept() -> None:
    assert draw(Sampling(top_k=1), [0.0, 1 - 2**-53]) == [1, 1]
    assert draw(Sampling(), [0.0, 1 - 2**-53]) == [0, 4]


def test_rows_of_one_batch_keep_their_own_settings() -> None:
    from ouroloop.loop.engines.transformers_local import Row, choose

    settings = [Sampling(), Sampling(temperature=0.0), Sampling(top_k=2)]
    logits = torch.tensor([PROBABILITIES]).log().repeat(3, 1)
    uniforms = torch.full((3,), 0.99, dtype=torch.float64)
    assert choose(logits, [Row([], s, 0) for s in settings], uniforms).tolist() == [4, 1, 3]
