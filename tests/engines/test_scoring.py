"""A scored text's log-probabilities as an array hold what vLLM's lists would hold."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("vllm")
pytestmark = pytest.mark.slow

POSITIONS, MOST_LIKELY = 7, 30


@pytest.fixture
def processor_class() -> Iterator[Any]:
    from vllm.v1.engine.logprobs import LogprobsProcessor

    theirs = LogprobsProcessor._update_prompt_logprobs
    yield LogprobsProcessor
    LogprobsProcessor._update_prompt_logprobs = theirs


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
