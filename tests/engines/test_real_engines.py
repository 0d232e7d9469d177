"""One contract, held by vLLM and by plain transformers, and both saying the same."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import save_tiny_llama

from ouroloop import evals
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.engines import weight_sync, weight_sync_truth
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.errors import EngineError
from ouroloop.loop.records import Completion, Request, Sampling, Scored

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = {
    "dtype": "float32",
    "max_model_len": 192,
    "max_num_seqs": 32,
    "kv_cache_memory_bytes": 2**26,
    "concurrency": 64,
}
STOP_TOKEN = 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that stops now and then.

    Its generation_config would spoil sampling if anybody obeyed it.
    """
    folder = save_tiny_llama(tmp_path_factory.mktemp("checkpoints") / "model", seed=3)
    weight_sync.write(weight_sync_truth.make(folder, "float32"), folder / weight_sync.FILE_NAME)
    spoiler = {
        "do_sample": True,
        "temperature": 0.01,
        "top_k": 1,
        "repetition_penalty": 3.0,
        "eos_token_id": [STOP_TOKEN, 20],
        "max_length": 3,
    }
    (folder / "generation_config.json").write_text(json.dumps(spoiler))
    return folder


def sample(name: str, prompt: str = "12 + 7 =", seed: int = 0, **sampling: Any) -> Request:
    return Request(name, prompt, Sampling(**{"max_tokens": 24, **sampling}), seed)


async def story(engine: ProcessEngine) -> dict[str, list[Completion]]:
    """What is asked of every engine; the promises are checked by the tests below."""

    async def together(requests: list[Request]) -> list[Completion]:
        return list(await asyncio.gather(*(engine.complete(request) for request in requests)))

    pairs = [("12 + 7 =", "19"), ("a", "")]
    sampled = [sample(f"s{i}", prompt=f"{i} + {i * 37} =", seed=i) for i in range(96)]
    with pytest.raises(EngineError, match=r"over engine\.max_model_len 192"):
        await engine.complete(sample("long", prompt="1" * 180))
    return {
        "sampled": await together(sampled),
        "again": await together(sampled[::-1]),
        "alone": [await engine.complete(request) for request in sampled[:4]],
        "greedy": await together(
            [sample(f"g{i}", prompt=f"{i} - {i} =", temperature=0.0) for i in range(16)]
        ),
        "top_k 1": await together(
            [sample(f"k{i}", prompt=f"{i} - {i} =", seed=i, top_k=1) for i in range(16)]
        ),
        "penalised": await together(
            [
                sample(f"p{i}", prompt=f"{i} - {i} =", temperature=0.0, repetition_penalty=2.0)
                for i in range(16)
            ]
        ),
        "encoded": [await engine.encode(pairs)],  # type: ignore[list-item]
    }


@pytest.fixture(scope="module")
def answers_of(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, list[Completion]]]:
    """Each engine's answers; every engine starts once."""
    answers: dict[str, dict[str, list[Completion]]] = {}

    async def ask(kind: str) -> dict[str, list[Completion]]:
        engine = ProcessEngine(
            {**CONFIG, "kind": kind}, tmp_path_factory.mktemp(kind) / "engine.log"
        )
        try:
            await engine.load(checkpoint)
            return await story(engine)
        finally:
            await engine.close()

    def get(kind: str) -> dict[str, list[Completion]]:
        if kind not in answers:
            answers[kind] = asyncio.run(ask(kind))
        return answers[kind]

    return get


KINDS = pytest.mark.parametrize("kind", ["vllm", "transformers"])


@KINDS
def test_a_seeded_sample_is_the_same_again_in_another_batch_and_alone(
    kind: str, answers_of: Callable[[str], Any]
) -> None:
    answers = answers_of(kind)
    assert answers["again"][::-1] == answers["sampled"] or kind == "transformers"
    same = sum(
        a.token_ids == b.token_ids
        for a, b in zip(answers["again"][::-1], answers["sampled"], strict=True)
    )
    assert same >= 94, (
        "transformers pads batches otherwise each time, so a rare draw may fall on the other side"
        " of a rounding"
    )
    assert [c.token_ids for c in answers["alone"]] == [c.token_ids for c in answers["sampled"][:4]]


@KINDS
def test_a_stop_token_ends_the_ids_and_never_the_text_and_the_rest_is_cut_at_max_tokens(
    kind: str, answers_of: Callable[[str], Any]
) -> None:
    sampled = answers_of(kind)["sampled"]
    stopped = [c for c in sampled if c.finish_reason == "stop"]
    assert 0 < len(stopped) < len(sampled)
    for completion in sampled:
        assert len(completion.token_ids) == len(completion.logprobs) <= 24
        assert all(value <= 0 for value in completion.logprobs)
        assert "<eos>" not in completion.text
        assert (completion.token_ids[-1] == STOP_TOKEN) == (completion.finish_reason == "stop")
        assert STOP_TOKEN not in completion.token_ids[:-1]
        assert completion.finish_reason == "stop" or len(completion.token_ids) == 24
        assert completion.weight_version.endswith("/model")


@KINDS
def test_the_checkpoints_own_sampling_defaults_change_nothing(
    kind: str, answers_of: Callable[[str], Any]
) -> None:
    answers = answers_of(kind)
    assert len({c.token_ids for c in answers["sampled"]}) > 80, (
        "96 prompts, some answered by a stop token at once"
    )
    assert any(20 in c.token_ids[:-1] for c in answers["sampled"]), (
        "20 is a letter: it must not stop a text"
    )


@KINDS
def test_top_k_1_is_greedy_and_a_penalty_changes_the_text(
    kind: str, answers_of: Callable[[str], Any]
) -> None:
    answers = answers_of(kind)
    assert [c.token_ids for c in answers["top_k 1"]] == [c.token_ids for c in answers["greedy"]]
    assert [c.token_ids for c in answers["penalised"]] != [c.token_ids for c in answers["greedy"]]


@KINDS
def test_encode_agrees_with_complete(kind: str, answers_of: Callable[[str], Any]) -> None:
    (encoded,) = answers_of(kind)["encoded"]
    assert encoded == [([5, 6, 66, 67, 66, 11, 66, 69], [5, 13, STOP_TOKEN]), ([14], [STOP_TOKEN])]


@pytest.mark.parametrize("what", ["greedy", "penalised"])
def test_both_engines_say_the_same_with_the_same_log_probabilities(
    what: str, answers_of: Callable[[str], Any]
) -> None:
    for ours, theirs in zip(
        answers_of("vllm")[what], answers_of("transformers")[what], strict=True
    ):
        assert ours.prompt_token_ids == theirs.prompt_token_ids
        assert ours.token_ids == theirs.token_ids
        assert ours.text == theirs.text
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)


WORLD = Path(evals.__file__).parent / "worlds" / "arithmetic" / "base"
TEXTS = [
    (world.PROMPTS.draft.format(question=p.question), p.solution or "")
    for p in ArithmeticTask().problems("reserve")[:60]
]


async def score(engine: ProcessEngine) -> list[Scored]:
    """The texts under the world's small checkpoint.

    After samples that leave their prompts in the prefix cache; the last text is too long.
    """
    await asyncio.gather(
        *(engine.complete(sample(f"{i}", prompt + text)) for i, (prompt, text) in enumerate(TEXTS))
    )
    scored, _ = await asyncio.gather(
        engine.score([*TEXTS, (TEXTS[0][0], "1" * 300)]),
        asyncio.gather(*(engine.complete(sample(f"s{i}", p)) for i, (p, _) in enumerate(TEXTS))),
    )
    return scored


@dataclass(frozen=True)
class OnWorld:
    """What an engine says under the world's small checkpoint; `drawn` by temperature."""

    scored: list[Scored]
    drawn: dict[float, Any]


async def ask_on_world(
    kind: str, folder: Path, temperatures: Sequence[float], **changes: Any
) -> OnWorld:
    """One start of an engine for everything that is asked under that checkpoint."""
    config = {
        **CONFIG,
        "weight_sync_check": False,
        "kind": kind,
        "max_num_seqs": 256,
        "concurrency": 512,
        **changes,
    }
    engine = ProcessEngine(config, folder / "engine.log")
    try:
        await engine.load(WORLD)
        scored = await score(engine)
        return OnWorld(scored, {t: await drawn(engine, t) for t in temperatures})
    finally:
        await engine.close()


@pytest.fixture(scope="module")
def on_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], OnWorld]:
    """Each engine's answers under the world's small checkpoint; every engine starts once."""
    # A colder engine shows that the comparison of draws would see a difference.
    temperatures = {"vllm": (1.0,), "transformers": (1.0, 0.8)}

    @functools.cache
    def get(kind: str) -> OnWorld:
        folder = tmp_path_factory.mktemp(f"world-{kind}")
        return asyncio.run(ask_on_world(kind, folder, temperatures[kind]))

    return get


def test_both_engines_score_a_text_alike_to_a_thousandth_of_a_nat(
    on_world: Callable[[str], OnWorld],
) -> None:
    ours, theirs = (on_world(kind).scored for kind in ("vllm", "transformers"))
    assert len(ours) == len(theirs) == len(TEXTS) + 1
    assert ours[-1] == theirs[-1] == Scored((), (), (), exact=False, weight_version="")
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):
        assert mine.exact and other.exact
        assert mine.token_ids == other.token_ids and len(mine.token_ids) == len(
            mine.logprobs
        ) == len(mine.entropies)
        assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-3)
        assert mine.entropies == pytest.approx(other.entropies, abs=1e-3)
        assert mine.weight_version == other.weight_version == "arithmetic/base"
    entropies = [e for mine in ours for e in mine.entropies]
    assert max(entropies) > 0.3 and min(entropies) >= 0, (
        "a distribution somewhere in these texts is not certain"
    )


PROBLEMS = [p for p in ArithmeticTask().problems("heldout") if p.family in ("sum2", "missing")][:40]
NUM_DRAWN = 32


async def drawn(engine: ProcessEngine, temperature: float) -> Any:
    """What the world's small checkpoint answers, as kinds (strategy and verdict).

    [problems, draws].
    """
    task, settings = ArithmeticTask(), Sampling(temperature=temperature, max_tokens=80)
    asked = [
        (p, world.PROMPTS.draft.format(question=p.question), i)
        for p in PROBLEMS
        for i in range(NUM_DRAWN)
    ]
    requests = [
        Request(f"{p.id}/{i}", prompt, settings, 1000 * i + n)
        for n, (p, prompt, i) in enumerate(asked)
    ]
    answers = await asyncio.gather(*(engine.complete(request) for request in requests))
    kinds = [
        f"{task.strategy(p, a.text)} {task.grade(p, a.text).correct}"
        for (p, _, _), a in zip(asked, answers, strict=True)
    ]
    return np.array(kinds, dtype="<U40").reshape(len(PROBLEMS), NUM_DRAWN)


def p_value(ours: Any, theirs: Any) -> float:
    """Permutation test, problem by problem.

    How often two random halves of all draws differ as much as these do.
    """
    rng, both = np.random.default_rng(0), np.concatenate([ours, theirs], axis=1)

    def apart(draws: Any) -> float:
        return sum(
            float(
                (
                    (
                        (draws[:, :NUM_DRAWN] == kind).mean(1)
                        - (draws[:, NUM_DRAWN:] == kind).mean(1)
                    )
                    ** 2
                ).sum()
            )
            for kind in np.unique(both)
        )

    found = apart(both)
    return (1 + sum(apart(rng.permuted(both, axis=1)) >= found for _ in range(999))) / 1000


def test_both_engines_draw_strategies_and_right_answers_with_the_same_shares(
    on_world: Callable[[str], OnWorld],
) -> None:
    ours, theirs = (on_world(kind).drawn for kind in ("vllm", "transformers"))
    assert p_value(ours[1.0], theirs[1.0]) > 0.01
    assert p_value(ours[1.0], theirs[0.8]) < 0.01, "the test would see a difference"


def test_where_not_all_probabilities_are_asked_for_the_entropy_is_a_lower_bound_and_says_so(
    on_world: Callable[[str], OnWorld], tmp_path: Path
) -> None:
    bound = asyncio.run(ask_on_world("vllm", tmp_path, (), extra={"max_logprobs": 3})).scored
    truth = on_world("transformers").scored
    pairs = list(zip(bound[:-1], truth[:-1], strict=True))
    assert not any(low.exact for low, _ in pairs)
    assert all(low.logprobs == pytest.approx(true.logprobs, abs=1e-3) for low, true in pairs)
    gaps = [
        true - low for a, b in pairs for low, true in zip(a.entropies, b.entropies, strict=True)
    ]
    assert min(gaps) > -1e-3 and max(gaps) > 1e-3


def test_a_fresh_engine_for_each_checkpoint_passes_its_weight_sync_check_too(
    checkpoint: Path, tmp_path: Path
) -> None:
    async def run() -> Awaitable[None] | None:
        engine = ProcessEngine(
            {**CONFIG, "kind": "transformers", "swap": "respawn"}, tmp_path / "engine.log"
        )
        try:
            await engine.load(checkpoint)
            first = engine.pid
            await engine.load(checkpoint)
            assert engine.pid != first
        finally:
            await engine.close()
        return None

    asyncio.run(run())
