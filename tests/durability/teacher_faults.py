"""Teachers behind servers that hang or answer with rubbish."""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from pathlib import Path
from typing import Any

import worlds
from malformed_answers import malformed
from openai_server import Server, serving
from scripted_world import BY_QUESTION
from trials import Fault, Trial
from worlds import NAME, Child, finished, write_recipe

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.engines import pacing
from ouroloop.loop.errors import EngineError
from ouroloop.loop.round import Round

NUM_ANSWERS = 200
PROBLEMS = {"student": False, "problems_per_round": 50, "samples_per_problem": 4, "max_tokens": 128}


def right(body: dict[str, Any]) -> tuple[str, str]:
    """What a good teacher answers."""
    question = body["prompt"].split("\nA:\n")[0]
    item = BY_QUESTION[question]
    return world.demonstrate(item, None if item.family in world.SKILLS else "column"), "stop"


def _play(root: Path, server: Server, is_repaired: bool = False, **servers: Any) -> int:
    """A round with this server as its teacher. In a child, which also serves.

    is_repaired: the run is to end with an error, and is resumed with a server that answers well.
    """
    # The waits between attempts are tested elsewhere; here they would be most of the time.
    pacing.FIRST_WAIT = pacing.LONGEST_WAIT = 0.01
    with serving(server) as url:
        write_recipe(
            root,
            rounds=1,
            teachers=[f"{url}#teacher"],
            sampling=PROBLEMS,
            refine={"critique": False, "revisions": 0},
            servers={"set_aside_seconds": 0.01, **servers},
        )
        code = worlds.play(root)
        if is_repaired:
            assert code == EngineError.exit_code, f"ended with {code} where nothing was answered"
            server.answer = right
            code = worlds.play(root)
    (root / "asked.txt").write_text(str(len(server.asked)))
    return code


def _dropped(root: Path) -> int:
    return len(Round.of(root / "runs" / NAME, 1).dropped)


def all_malformed(folder: Path, seed: str, number: int) -> Trial:
    """Two hundred samples, the first answer to each of which is none."""
    bodies = iter([body for _, body in malformed(is_chat=False, seed=number, num=NUM_ANSWERS)])
    lock = threading.Lock()

    def answer(body: dict[str, Any]) -> Any:
        with lock:
            bad = None if body["seed"] in seen else next(bodies, None)
            seen.add(body["seed"])
        return right(body) if bad is None else bad

    seen: set[int] = set()
    root = folder / "run"
    child = Child.of(root, lambda: _play(root, Server(answer)))
    code = child.wait()
    if code is None:
        child.end()
    if not finished(code):
        return Trial("malformed answers", number, NUM_ANSWERS, 0, note=child.text()[-300:])
    dropped = _dropped(root)
    asked = int((root / "asked.txt").read_text())
    survived = NUM_ANSWERS - dropped
    return Trial("malformed answers", number, NUM_ANSWERS, survived, dropped, asked - NUM_ANSWERS)


def always_malformed(folder: Path, seed: str, number: int) -> Trial:
    """A few samples that are answered with rubbish whatever is tried: dropped and counted."""
    bodies = itertools.cycle([body for _, body in malformed(is_chat=False, seed=number)])
    # Of two hundred samples about twelve, below the limit of twenty.
    offset = random.Random(seed).randrange(16)
    places: dict[int, int] = {}
    lock = threading.Lock()

    def answer(body: dict[str, Any]) -> Any:
        with lock:
            place = places.setdefault(body["seed"], len(places))
            return next(bodies) if place % 16 == offset else right(body)

    root = folder / "run"
    child = Child.of(root, lambda: _play(root, Server(answer), attempts=3))
    code = child.wait()
    if code is None:
        child.end()
    name = "no usable answer at all"
    if not finished(code):
        return Trial(name, number, 1, 0, note=child.text()[-300:])
    dropped = _dropped(root)
    rows = len(Round.of(root / "runs" / NAME, 1).verdicts)
    is_counted = rows + dropped == NUM_ANSWERS and 0 < dropped <= 20
    note = "" if is_counted else f"{rows} verdicts and {dropped} dropped"
    return Trial(name, number, dropped, dropped if is_counted else 0, dropped, note=note)


def none_usable(folder: Path, seed: str, number: int) -> Trial:
    """A teacher that answers nothing but rubbish: the run ends with one sentence, and can go on."""
    bodies = itertools.cycle([body for _, body in malformed(is_chat=False, seed=number)])
    root = folder / "run"
    server = Server(lambda body: next(bodies))
    child = Child.of(root, lambda: _play(root, server, is_repaired=True, attempts=2))
    code, said = child.wait(), child.text()
    if code is None:
        child.end()
    # The server's own threads may say that nobody waits for their answer any more.
    is_clear = re.search(r"^ouroloop: .* got no usable answer, .*max_dropped", said, re.MULTILINE)
    if not finished(code) or not is_clear:
        return Trial(NONE_USABLE, number, 1, 0, note=f"{code}: {said[-300:]}")
    return Trial(NONE_USABLE, number, 1, 1, _dropped(root))


def hanging(folder: Path, seed: str, number: int) -> Trial:
    """A teacher that hangs for a while in the middle of the round."""
    rng = random.Random(seed)
    first, last = 20, 20 + rng.randrange(5, 30)
    count = itertools.count()

    def answer(body: dict[str, Any]) -> Any:
        if first <= next(count) < last:
            time.sleep(60)
        return right(body)

    root = folder / "run"
    child = Child.of(root, lambda: _play(root, Server(answer), timeout_seconds=4))
    code = child.wait()
    if code is None:
        child.end()
    name = "hanging teacher"
    if not finished(code):
        return Trial(name, number, 1, 0, note=f"{code}: {child.text()[-300:]}")
    asked = int((root / "asked.txt").read_text())
    return Trial(name, number, 1, 1, _dropped(root), asked - NUM_ANSWERS)


NONE_USABLE = "only rubbish from a server"
FAULTS = (
    Fault(
        "malformed answers",
        "200 answers of status 200 that are none, one to each of 200 samples; every one is asked"
        " for again",
        all_malformed,
        enough=NUM_ANSWERS,
        quick=NUM_ANSWERS,
    ),
    Fault(
        "no usable answer at all",
        "some samples are answered with rubbish in every attempt: they are dropped, which is the"
        " rows lost, and counted in the round",
        always_malformed,
        enough=30,
        quick=0,
    ),
    Fault(
        NONE_USABLE,
        "no answer of a teacher is ever usable: the run ends with one sentence, and goes on once"
        " the teacher answers well",
        none_usable,
        quick=0,
    ),
    Fault(
        "hanging teacher",
        "5 to 30 requests are not answered for a minute, with a time limit of 4 s",
        hanging,
        quick=0,
    ),
)
