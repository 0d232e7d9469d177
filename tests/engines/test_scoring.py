"""Log-probabilities without entries for each token hold what vLLM's own would hold."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("vllm")
pytestmark = pytest.mark.slow

POSITIONS, MOST_LIKELY = 7, 30


@pytest.fixture
def processor_class() -> Iterator[Any]:
    from vllm.v1.engine.logprobs import LogprobsProcessor

    names = ("_update_prompt_logprobs", "_update_sample_logprobs")
    theirs = {name: getattr(LogprobsProcessor, name) for name in names}
    yield LogprobsProcessor
    for name, method in theirs.items():
        setattr(LogprobsProcessor, name, method)


def found_by(processor_class: Any, tensors: Any, flat: bool = True) -> Any:
    from vllm.v1.engine.logprobs import create_prompt_logprobs

    processor = processor_class(
        tokenizer=None,
        logprobs=None,
        prompt_logprobs=create_prompt_logprobs(flat),
        cumulative_logprob=None,
        num_logprobs=None,
        num_prompt_logprobs=MOST_LIKELY,
    )
    processor._update_prompt_logprobs(tensors)
    return processor.prompt_logprobs


def test_the_array_holds_the_numbers_of_vllms_own_lists(processor_class: Any) -> None:
    import torch
    from vllm.v1.outputs import LogprobsTensors

    from ouroloop.loop.engines import scoring_local

    torch.manual_seed(0)
    shape = (POSITIONS, 1 + MOST_LIKELY)
    tensors = LogprobsTensors(
        torch.randint(0, 99, shape, dtype=torch.int32),
        torch.randn(shape).log_softmax(-1),
        torch.zeros(POSITIONS, dtype=torch.int32),
    )
    expected = found_by(processor_class, tensors)
    assert len(expected) == 1 + POSITIONS, "the first token of a text has none"
    scoring_local.install()
    scoring_local.install()
    rows = found_by(processor_class, tensors).rows
    assert rows.shape == shape
    for row, start, end in zip(
        rows, expected.start_indices[1:], expected.end_indices[1:], strict=True
    ):
        assert row.tolist() == expected.logprobs[start:end]
    # Other requests are vLLM's own business.
    assert len(found_by(processor_class, tensors, flat=False)) == 1 + POSITIONS


def sampled_by(processor_class: Any, steps: list[Any], flat: bool = True) -> Any:
    from vllm.logprobs import create_sample_logprobs

    processor = processor_class(
        tokenizer=None,
        logprobs=create_sample_logprobs(flat),
        prompt_logprobs=None,
        cumulative_logprob=0.0,
        num_logprobs=0,
        num_prompt_logprobs=None,
    )
    for step in steps:
        processor._update_sample_logprobs(step)
    return processor.logprobs


def test_every_sampled_token_has_the_number_of_vllms_own_dictionary(processor_class: Any) -> None:
    import numpy as np
    from vllm.v1.outputs import LogprobsLists

    from ouroloop.loop.engines import scoring_local

    rng = np.random.default_rng(0)
    # The last step gave two tokens at once, as speculative decoding does.
    steps = [
        LogprobsLists(
            rng.integers(0, 99, (num, 1), dtype=np.int32),
            -rng.random((num, 1), dtype=np.float32),
            np.ones(num, dtype=np.int32),
        )
        for num in (1, 1, 1, 2)
    ]
    expected = sampled_by(processor_class, steps, flat=False)
    scoring_local.install()
    found = sampled_by(processor_class, steps).logprobs
    assert found == [entry.logprob for at_step in expected for entry in at_step.values()]
    # Other requests are vLLM's own business.
    assert sampled_by(processor_class, steps, flat=False) == expected
