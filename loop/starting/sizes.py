"""How much a first run does: the largest size that this machine ends in a quarter of an hour.

A first user wants to see a report soon; what to raise afterwards stands in the recipe. The time is
an estimate from speeds that were measured once. On a GPU the largest size takes minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroloop.loop.starting.survey import Survey

SECONDS = 15 * 60
"""What a first run may take from its start to its last round."""
START_SECONDS = 150
"""Of them: starting engines and trainings, and proving the served weights after each swap."""
MEASURED_BYTES = 270e6
"""Weights of SmolLM2-135M, for which the speeds below hold; others go by their size."""
# On two cores without bfloat16 units, float32: short answers sampled by vLLM in batches; LoRA on
# rows of 128 tokens, 108 of which a core trains on in a second (docs/memory.md).
SAMPLED_PER_SECOND = 490
TRAINED_PER_SECOND = 180
PROBE_SAMPLES = 8
"""Of each held-out problem in every round."""
KEPT_SHARE = 0.25
"""Of a round's samples, for the estimate: a weak model is right in fewer, a strong one ends sooner
in any case."""
EPOCHS = 2
"""Passes over the examples of a round."""
FEW = 100
"""Fewer problems than this get more samples each."""


@dataclass(frozen=True)
class Size:
    """What is sampled. problems, probe_problems: at most; baseline_samples: in rounds 0 and 1."""

    rounds: int
    problems: int
    samples: int
    probe_problems: int
    baseline_samples: int


@dataclass(frozen=True)
class Lengths:
    """Tokens of a prompt, of an answer, and of all that is sampled for one training sample."""

    prompt: int
    answer: int
    sample: int


def sizes(survey: Survey) -> tuple[Size, ...]:
    """From the largest to the smallest, no larger than the data.

    The last is the least that may still train: a model that is right in a few samples of a hundred.
    """
    few, few_held_out = survey.num_train < FEW, survey.num_heldout < FEW
    # Few problems are asked more often instead.
    largest = Size(4, 200, 8 if few else 4, 100, 32 if few_held_out else 16)
    smaller = (Size(2, 100, 4, 50, 16), Size(2, 50, 4, 25, 16), Size(2, 25, 4, 12, 8))
    return tuple(
        Size(
            size.rounds,
            min(size.problems, survey.num_train),
            size.samples,
            max(2, min(size.probe_problems, survey.num_heldout)),
            size.baseline_samples,
        )
        for size in (largest, *smaller)
    )


def fitting(
    survey: Survey, lengths: Lengths, warm_tokens: int, weight_bytes: int, is_gpu: bool
) -> Size:
    """The largest size that ends in time; the smallest where none does.

    Args:
        survey: What the data holds.
        lengths: Of its texts, in tokens.
        warm_tokens: Tokens that the warm start trains on, all its passes together.
        weight_bytes: Size of the model's weights.
        is_gpu: Whether the machine has a GPU.
    """
    choices = sizes(survey)
    if is_gpu:
        return choices[0]
    for size in choices:
        if seconds(size, lengths, warm_tokens, weight_bytes) <= SECONDS:
            return size
    return choices[-1]


def seconds(size: Size, lengths: Lengths, warm_tokens: int, weight_bytes: int) -> float:
    """How long a run of this size takes on two cores."""
    drawn = size.rounds * size.problems * size.samples
    # Round 0 and round 1 are the baselines.
    probed = size.probe_problems * (2 * size.baseline_samples + (size.rounds - 1) * PROBE_SAMPLES)
    sampled = drawn * lengths.sample + probed * lengths.answer
    # What is kept ended by itself: `answer` is what most do not reach.
    learnt = EPOCHS * KEPT_SHARE * drawn * (lengths.prompt + lengths.answer / 2)
    work = sampled / SAMPLED_PER_SECOND + (learnt + warm_tokens) / TRAINED_PER_SECOND
    return START_SECONDS + work * weight_bytes / MEASURED_BYTES
