"""The journal of the round at work: a kill repeats the requests in flight, and no others."""

import asyncio
import contextlib
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_world import Model, no_training, recipe

from ouroloop.loop.controller import Campaign
from ouroloop.loop.engines.scripted import Answer, ScriptedEngine
from ouroloop.loop.folder.journal import Journal, JournalledEngine
from ouroloop.loop.folder.ledger import JOURNAL, LEDGER, identity
from ouroloop.loop.folder.store import Store
from ouroloop.loop.records import Request, Sampling
from ouroloop.loop.round import Round
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.reader import read_run

ASKED = Request("001/student/p/draft/0", "Q: 1+1\nA:", Sampling(0.7), 5)
BASE = Path("models/base")


def asking(path, engine=None, recipe="recipe", model=BASE):
    """(journalled engine, the one behind it), both going on with the journal at `path`."""
    behind = engine or ScriptedEngine()
    journal = Journal()
    journal.begin(path)
    found = JournalledEngine(behind, journal, recipe, str)
    asyncio.run(found.load(model))
    return found, behind


def complete(engine, request=ASKED):
    return asyncio.run(engine.complete(request))


def test_what_was_answered_is_not_asked_again_and_keeps_every_digit(tmp_path):
    behind = ScriptedEngine(lambda request: Answer("two ½ \ud800", logprob=-1 / 3))
    first, _ = asking(tmp_path / JOURNAL, behind)
    answer, scored = complete(first), asyncio.run(first.score([("a", "b"), ("a", "c")]))
    # Not closed: a kill would leave it so.
    again, silent = asking(tmp_path / JOURNAL)
    assert complete(again) == answer and answer.logprobs[0] == -1 / 3
    assert asyncio.run(again.score([("a", "c"), ("a", "b")])) == scored[::-1]
    assert silent.requests == [] and silent.scored == []


OTHERS = {
    "seed": {"request": replace(ASKED, seed=6)},
    "prompt": {"request": replace(ASKED, prompt="Q: 1+2\nA:")},
    "chat turns": {"request": replace(ASKED, prompt=[{"role": "user", "content": "Q: 1+1\nA:"}])},
    "sampling": {"request": replace(ASKED, sampling=Sampling(0.8))},
    "id": {"request": replace(ASKED, id="001/student/p/draft/1")},
    "model": {"model": Path("models/other")},
    "recipe": {"recipe": "another"},
}


@pytest.mark.parametrize("what", OTHERS)
def test_an_answer_to_another_question_is_never_used(tmp_path, what):
    complete(asking(tmp_path / JOURNAL)[0])
    request = OTHERS[what].pop("request", ASKED)
    again, behind = asking(tmp_path / JOURNAL, **OTHERS[what])
    complete(again, request)
    assert behind.requests == [request]


def test_a_server_beside_the_student_has_answers_of_its_own_in_the_same_journal(tmp_path):
    student, _ = asking(tmp_path / JOURNAL)
    server = ScriptedEngine(lambda request: "from the server")
    asyncio.run(server.load(BASE))
    teacher = student.beside(server, "http://teacher#model")
    assert complete(student).text != complete(teacher).text == "from the server"
    again, silent = asking(tmp_path / JOURNAL)
    teacher = again.beside(silent, "http://teacher#model")
    assert complete(teacher).text == "from the server" and silent.requests == []


@pytest.mark.parametrize("harm", ["torn", "flipped"])
def test_a_line_that_does_not_prove_itself_is_asked_again_and_the_others_are_not(tmp_path, harm):
    path = tmp_path / JOURNAL
    second = replace(ASKED, id="second")
    first, _ = asking(path)
    complete(first), complete(first, second)
    lines = path.read_bytes().splitlines(keepends=True)
    if harm == "torn":
        lines[1] = lines[1][:-20]
    else:
        lines[1] = lines[1].replace(b"seed", b"sead").replace(b"Q:", b"q:")
        lines[1] = lines[1][:60] + b"\x07" + lines[1][61:]
    path.write_bytes(b"".join(lines))
    again, behind = asking(path)
    complete(again), complete(again, second)
    assert behind.requests == [second]
    last, silent = asking(path)
    complete(last), complete(last, second)
    assert silent.requests == [], "the line that was asked again is whole"


def test_an_engine_that_fails_leaves_no_answer_and_outside_a_round_nothing_is_kept(tmp_path):
    failing, _ = asking(tmp_path / JOURNAL, ScriptedEngine(fail_after=0))
    with pytest.raises(Exception, match="set to fail"):
        complete(failing)
    assert (tmp_path / JOURNAL).read_bytes() == b""
    failing.journal.end()
    failing.engine.fail_after = None
    complete(failing)
    assert (tmp_path / JOURNAL).read_bytes() == b""


def test_a_checkpoint_of_the_run_is_known_by_its_files_and_another_by_its_place(tmp_path):
    made = Round.of(tmp_path, 1)
    weights = made.folder / "checkpoint" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"1")
    made.ledger.add_new()
    before = identity(tmp_path, weights.parent)
    assert before == identity(tmp_path, weights.parent) and before.startswith("rounds/001/")
    weights.write_bytes(b"2")
    made.ledger.add(weights)
    after = identity(tmp_path, weights.parent)
    assert after != before
    made.commit()
    assert identity(tmp_path, weights.parent) == after, "also once it is committed"
    assert identity(tmp_path, BASE) == str(BASE)


# -- whole runs -----------------------------------------------------------------------


class Busy:
    """The scripted model with several requests in flight; it notes which were answered."""

    def __init__(self, answered=lambda engine: None):
        self.model, self.answered = Model(), answered
        self.asked, self.got = [], []
        # Where the round at work began in both.
        self.began = 0, 0

    async def load(self, checkpoint, check=None):
        await self.model.engine.load(checkpoint, check)

    async def encode(self, pairs):
        return await self.model.engine.encode(pairs)

    async def close(self):
        pass

    async def _noting(self, names, answer):
        self.asked += names
        await asyncio.sleep(0)
        found = await answer
        self.got += names
        self.answered(self)
        return found

    async def complete(self, request):
        name = f"{self.model.round} {request.id} {request.prompt}"
        return await self._noting([name], self.model.engine.complete(request))

    async def score(self, pairs):
        names = [f"{self.model.round} {prompt} {text}" for prompt, text in pairs]
        return await self._noting(names, self.model.engine.score(pairs))


SETTINGS = recipe(
    rounds=1,
    engine={"weight_sync_check": False, "concurrency": 8},
    sampling={"problems_per_round": 8, "samples_per_problem": 4, "max_tokens": 96},
    filters={"critic": True},
    probe={"problems": 6, "family_problems": 1, "samples": 8, "baseline_samples": 8, "texts": 8},
)
NUM_REQUESTS = 300
"""At the least, in the whole of this run."""


class Committed(Exception):
    """The round that was at work is over."""


def carry(root, engine, setting, one_round=False):
    """The run to its end, or to the end of the round at work; returns its folder."""
    path = root / SETTINGS.name
    store = Store.open(path) if path.exists() else Store.create(root, SETTINGS, "none")
    campaign = Campaign(store, setting, engine, lambda *what: None, trainer=no_training)

    def committed(number):
        engine.began = len(engine.asked), len(engine.got)
        if one_round:
            raise Committed

    campaign.committed = committed
    with contextlib.closing(store), contextlib.suppress(Committed):
        asyncio.run(campaign.run())
    return path


@pytest.mark.slow
def test_a_kill_repeats_the_requests_in_flight_and_no_others(tmp_path):
    """Every file is as a kill at that moment leaves it: nothing is buffered."""
    setting, num_kills = prepare(SETTINGS), 50
    points = random.Random(num_kills).sample(range(1, NUM_REQUESTS), num_kills)
    left = []

    def snapshot(engine):
        if len(engine.got) in points:
            copy = tmp_path / str(len(engine.got))
            shutil.copytree(tmp_path / "whole", copy)
            # Its own round alone: round 1's audit rightly asks what round 0's asked before.
            asked, got = engine.began
            left.append((copy, set(engine.asked[asked:]), engine.got[got:]))

    engine = Busy(snapshot)
    whole = carry(tmp_path / "whole", engine, setting)
    assert len(left) == num_kills and len(engine.got) > NUM_REQUESTS
    for root, asked, got in left:
        resumed = Busy()
        run = carry(root, resumed, setting, one_round=True)
        # The answer upon which the kill came never reached the journal.
        repeated = [name for name in resumed.asked if name in asked]
        assert set(repeated) == asked - set(got[:-1]), root.name
        assert len(repeated) == len(set(repeated)) and not list(run.rglob(JOURNAL))
        assert_equal_tables(run, whole)
        shutil.rmtree(root)


def assert_equal_tables(run, whole):
    files = [path.relative_to(run) for path in run.rglob("*.parquet")]
    files += [path.relative_to(run) for path in run.rglob("samples.jsonl")]
    assert len(files) >= 4
    for file in files:
        assert (run / file).read_bytes() == (whole / file).read_bytes(), f"{run}: {file}"


@pytest.mark.slow
def test_the_journal_goes_with_the_commit_and_what_a_kill_left_of_it_when_a_run_is_opened(
    tmp_path,
):
    run = carry(tmp_path, Busy(), prepare(SETTINGS))
    assert not list(run.rglob(JOURNAL))
    last = run / "rounds" / "001"
    for name in (JOURNAL, LEDGER):
        (last / name).write_text("what a kill right after the manifest leaves")
    Store.open(run).close()
    assert not (last / JOURNAL).exists() and not (last / LEDGER).exists()
    started = [event for event in read_run(run).events if event["event"] == "round_started"]
    assert [event["answers"] for event in started] == [0, 0]
    assert json.loads((last / "samples.jsonl").read_text().splitlines()[0])["id"].startswith("001")
