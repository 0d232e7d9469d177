"""Which checkpoint is served: loaded once, proven, let go for the trainer; and who drafts what."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_world import recipe

from ouroloop.loop import serving
from ouroloop.loop.folder.journal import Journal, JournalledEngine
from ouroloop.loop.rows import RoundPlan
from ouroloop.loop.serving import Serving
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages.sources import sources_of

FIRST, SECOND = Path("first"), Path("second")


class Closing:
    """A scripted engine that counts how often it was closed."""

    def __init__(self, proof=""):
        self.loaded, self.closed, self.proof = [], 0, proof

    async def load(self, checkpoint, expected=None):
        self.loaded.append((checkpoint, expected))
        return self.proof

    async def close(self):
        self.closed += 1


def served(engine, **config):
    settings = recipe(engine={"weight_sync_check": False, "dtype": "float32", **config}).engine
    journalled = JournalledEngine(engine, Journal(), "recipe", str)
    return Serving(journalled, settings, Path("proofs"), *[lambda *what: None] * 2)


def test_a_checkpoint_that_is_served_already_is_not_loaded_again():
    engine = Closing()
    found = served(engine)

    async def story():
        await found.serve_any(FIRST)
        await found.serve_any(SECOND)
        await found.serve(FIRST)
        await found.serve(SECOND)

    asyncio.run(story())
    assert engine.loaded == [(FIRST, None), (SECOND, None)]


@pytest.mark.parametrize("proof", ["2 prompts answered as they should be", ""])
def test_how_it_is_known_that_a_checkpoint_is_served_is_told_once_for_each_load(proof):
    found, told = served(Closing(proof)), []
    found.proven = lambda *what: told.append(what)

    async def story():
        for checkpoint in (FIRST, FIRST, SECOND):
            await found.serve(checkpoint)

    asyncio.run(story())
    assert told == ([(FIRST, proof), (SECOND, proof)] if proof else [])


def test_every_load_is_proven_by_the_checkpoints_own_prompts(monkeypatch):
    asked = []

    def weight_sync_of(checkpoint, folder, dtype, limits):
        asked.append((checkpoint, folder, dtype))
        return Path("expected.json")

    monkeypatch.setattr(serving.training, "weight_sync_of", weight_sync_of)
    engine = Closing()
    asyncio.run(served(engine, weight_sync_check=True).serve(FIRST))
    assert engine.loaded == [(FIRST, Path("expected.json"))]
    assert asked == [(FIRST, Path("proofs"), "float32")]


@pytest.mark.parametrize(("swap", "closed"), [("respawn", 1), ("reload", 0)])
def test_the_trainer_gets_the_engines_memory_where_every_checkpoint_has_an_engine_of_its_own(
    swap, closed
):
    engine = Closing()
    found = served(engine, swap=swap)

    async def story():
        await found.serve(FIRST)
        await found.free_memory()
        await found.serve(FIRST)

    asyncio.run(story())
    assert engine.closed == closed and len(engine.loaded) == 1 + closed


def test_a_server_is_asked_beside_the_student_and_closed_whatever_happens(monkeypatch):
    closed = []

    class Server:
        def __init__(self, address, engine, concurrency, chat_template_kwargs):
            self.address = address

        async def close(self):
            closed.append(self.address)

    monkeypatch.setattr(serving.remote, "RemoteEngine", Server)
    engine = Closing()
    found = served(engine)

    async def story():
        async with found.asking("http://teacher", FIRST) as teacher:
            assert teacher.engine.address == "http://teacher"
            assert teacher.journal is found.engine.journal
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(story())
    assert closed == ["http://teacher"] and engine.loaded == [(FIRST, None)]


PLAN = RoundPlan(4, 3, 3, (1.0,), 0.0, None, False, num_problems=10)


def sources(plan, **changes):
    setting = replace(prepare(recipe(**changes)), teachers=(FIRST, "http://teacher"))
    return sources_of(plan, setting, lambda number: Path(f"checkpoint{number}"))


def test_the_student_and_its_earlier_rounds_share_the_problems_and_teachers_get_all():
    found = sources(replace(PLAN, teachers=(1, 0)))
    assert [(s.name, str(s.model), len(s.problems)) for s in found] == [
        ("student", "checkpoint3", 4),
        ("round1", "checkpoint1", 3),
        ("round0", "checkpoint0", 3),
        ("teacher0", "first", 10),
        ("teacher1", "http://teacher", 10),
    ]
    dealt = [problem.id for source in found[:3] for problem in source.problems]
    assert sorted(dealt) == sorted(problem.id for problem in found[3].problems)


def test_where_the_student_does_not_draft_only_the_teachers_do():
    found = sources(PLAN, sampling={"student": False}, teachers=["arithmetic/teacher"])
    assert [source.name for source in found] == ["teacher0", "teacher1"]
