"""A token a row from one uniform number: the right distribution, reproducible, row by row.

All slow: torch comes along.
"""

import pytest
from scipy import stats

torch = pytest.importorskip("torch")

from ouroloop.loop.engines import sampler_local  # noqa: E402
from ouroloop.loop.engines.sampler_local import BLOCK, draw  # noqa: E402

pytestmark = pytest.mark.slow

VOCABULARY = 1000  # no multiple of BLOCK: the last block is padded


def generators(num, start=0):
    return {row: torch.Generator().manual_seed(start + row) for row in range(num)}


@pytest.fixture(scope="module")
def logits():
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1)) * 2


def test_tokens_have_their_probabilities(logits):
    num = 60_000
    tokens = torch.cat(
        [draw(logits.expand(3000, -1), generators(3000, 3000 * i)) for i in range(num // 3000)]
    )
    p = logits.softmax(-1, dtype=torch.float64).numpy()
    counts = torch.bincount(tokens, minlength=VOCABULARY).numpy()
    # Rare tokens together, so that every cell expects enough for the chi-squared test.
    common = p * num >= 20
    observed = [*counts[common], counts[~common].sum()]
    expected = [*(p[common] * num), p[~common].sum() * num]
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert common.sum() > 100


def test_a_row_draws_the_same_alone_and_in_company(logits):
    rows = torch.stack([logits, logits.flip(0), logits * 0.1, logits * 5])
    together = draw(rows, generators(4))
    for row in range(4):
        alone = draw(rows[row : row + 1], {0: torch.Generator().manual_seed(row)})
        assert alone.item() == together[row].item()


def test_a_generator_gives_up_one_number_a_token(logits):
    generator = torch.Generator().manual_seed(5)
    first = [draw(logits[None], {0: generator}).item() for _ in range(20)]
    generator = torch.Generator().manual_seed(5)
    assert [draw(logits[None], {0: generator}).item() for _ in range(20)] == first
    assert len(set(first)) > 5


def test_what_was_cut_off_is_never_drawn():
    logits = torch.full((512, VOCABULARY), -torch.inf)
    allowed = torch.tensor([0, BLOCK - 1, BLOCK, 700, VOCABULARY - 1])
    logits[:, allowed] = 0.0
    tokens = draw(logits, generators(512))
    assert set(tokens.tolist()) == set(allowed.tolist())


def test_a_certain_token_is_always_drawn():
    logits = torch.full((64, VOCABULARY), -40.0)
    logits[:, -1] = 40.0
    assert (draw(logits, generators(64)) == VOCABULARY - 1).all()


def test_rows_without_a_seed_share_the_global_generator(logits):
    torch.manual_seed(3)
    first = draw(logits.expand(8, -1), {0: torch.Generator().manual_seed(0)})
    torch.manual_seed(4)
    other = draw(logits.expand(8, -1), {0: torch.Generator().manual_seed(0)})
    assert first[0] == other[0] and (first[1:] != other[1:]).any()


@pytest.mark.parametrize("num_seeded", [6, 4], ids=["all_seeded", "some_greedy"])
def test_a_small_vocabulary_draws_what_vllms_own_cpu_sampler_draws(logits, num_seeded):
    sampler = pytest.importorskip("vllm.v1.sample.ops.topk_topp_sampler").TopKTopPSampler
    rows = torch.stack([logits.roll(place) for place in range(6)])
    theirs = sampler.forward_cpu
    try:
        expected, _ = sampler().forward_cpu(rows.clone(), generators(num_seeded), None, None)
        sampler_local.install()
        state = torch.get_rng_state()
        found, _ = sampler().forward_cpu(rows.clone(), generators(num_seeded), None, None)
    finally:
        sampler.forward_cpu = theirs
    assert found[:num_seeded].tolist() == expected[:num_seeded].tolist()
    # Nothing is drawn for rows that all have a seed of their own.
    assert torch.equal(torch.get_rng_state(), state) == (num_seeded == 6)
