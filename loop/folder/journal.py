"""The journal of the round at work: every answer of a model, kept as it comes.

A stage writes its file when it is finished; a kill in the middle would cost all that was sampled
for it. So the engine that the stages ask stands behind a journal. A stage that was cut off runs
again from its beginning, and is answered from the journal as far as that reaches. The requests in
flight are asked again and no others. When the round is committed its files say everything, and the
journal goes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.folder.frozen import digests_of
from ouroloop.loop.folder.ledger import identity
from ouroloop.loop.folder.lines import proven, read_lines
from ouroloop.loop.folder.storage import naming
from ouroloop.loop.folder.store import Store
from ouroloop.loop.records import Completion, Prompt, Request, Scored
from ouroloop.loop.setup import Setting

# Fields of an answer with a number for every token.
FLOATS = frozenset({"logprobs", "entropies"})
# It rests on `Journal.add`, which writes the key first: what is found need not be parsed.
_KEY = re.compile(rb'^\{"key":"([0-9a-f]{32})"')


class Journal:
    """The answers of one round. Without a round at work nothing is kept, and nothing is known.

    A line is handed to the system as soon as its answer is there, so a kill loses none. It is not
    forced to disk: after a power cut the answers of the last half minute are asked again, which
    costs less than a wait for the disk at every answer. A line that does not prove itself is not
    answered from.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._found: dict[str, bytes] = {}

    def begin(self, path: Path) -> int:
        """Go on with the journal at `path`; returns how many answers it holds."""
        self.end()
        lines = read_lines(path)
        for line in lines.good:
            key = _KEY.match(line)
            if key is not None:
                # Read once it is asked for: parsed, a round's answers take ten times the memory.
                self._found[key[1].decode()] = line
        with naming(path):
            # What a kill cut short has no end, and the next line would be appended to it.
            if lines.torn:
                os.truncate(path, path.stat().st_size - lines.torn)
            # Unbuffered: what waits in Python's own buffer dies with the process.
            self._file = path.open("ab", buffering=0)
        return len(self._found)

    def take(self, key: str) -> dict[str, Any] | None:
        """The answer that was given before, once; None where there is none."""
        # Taken out, so that memory falls as the round catches up. A text that is asked for twice is
        # asked of the engine the second time, which gives the same answer.
        line = self._found.pop(key, None)
        return None if line is None else dict(json.loads(line)["answer"])

    def add(self, key: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer."""
        if self._file is None:
            return
        line = proven(json.dumps({"key": key, "answer": answer}, separators=(",", ":")))
        with naming(Path(self._file.name)):
            self._file.write(f"{line}\n".encode())

    def end(self) -> None:
        """Forget the round; its file is the round's to remove."""
        if self._file is not None:
            self._file.close()
        self._file = None
        self._found.clear()


@dataclass
class JournalledEngine:
    """An engine that is asked only what the round's journal does not hold.

    An answer is known by all that it depends on: the request's id, prompt, sampling and seed, the
    model, and the run's recipe. What another model or recipe answered is therefore never used.

    Attributes:
        engine: who answers.
        journal: the run's.
        recipe: the fingerprint of the run's recipe.
        identify: what tells a checkpoint from every other one, given its folder.
        model: what is served now: what `identify` said, or the address of a server.
    """

    engine: Engine
    journal: Journal
    recipe: str
    identify: Callable[[Path], str]
    model: str = ""

    def beside(self, server: Engine, address: str) -> JournalledEngine:
        """Another engine with the same journal."""
        return replace(self, engine=server, model=address)

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        """See `Engine.load`."""
        proof = await self.engine.load(checkpoint, check)
        self.model = self.identify(checkpoint)
        return proof

    async def complete(self, request: Request) -> Completion:
        """See `Engine.complete`."""
        sampling = vars(request.sampling)
        key = self._key("complete", request.id, request.prompt, sampling, request.seed)
        found = self.journal.take(key)
        if found is not None:
            return Completion(**_unpacked(found))
        answer = await self.engine.complete(request)
        self.journal.add(key, _packed(answer))
        return answer

    async def encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[list[int], list[int]]]:
        """See `Engine.encode`. Not kept: the tokenizer is faster than a file."""
        return await self.engine.encode(pairs)

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """See `Engine.score`."""
        return list(await asyncio.gather(*(self._score(*pair) for pair in pairs)))

    async def _score(self, prompt: Prompt, text: str) -> Scored:
        key = self._key("score", prompt, text)
        found = self.journal.take(key)
        if found is not None:
            return Scored(**_unpacked(found))
        # One by one: of a list that is cut off no text would be kept.
        (answer,) = await self.engine.score([(prompt, text)])
        self.journal.add(key, _packed(answer))
        return answer

    async def close(self) -> None:
        """See `Engine.close`."""
        await self.engine.close()

    def _key(self, *asked: Any) -> str:
        text = json.dumps([self.recipe, self.model, *asked], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def journalled(
    engine: Engine, journal: Journal, store: Store, setting: Setting
) -> JournalledEngine:
    """The engine of a run behind the run's journal."""
    identify = partial(identity, store.path, outside=digests_of(store, setting))
    return JournalledEngine(engine, journal, store.fingerprint, identify)


def _packed(answer: Completion | Scored) -> dict[str, Any]:
    """An answer's fields as JSON values.

    Numbers with every digit, for a resumed round must make the same files. As text they would take
    twice the room and most of the time.
    """
    fields = dict(vars(answer))
    for name in FLOATS & fields.keys():
        # In the machine's byte order: a journal lives for one round, on one machine.
        fields[name] = b64encode(array("d", fields[name]).tobytes()).decode()
    return fields


def _unpacked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_packed`. JSON knows lists only; the records hold tuples."""
    found: dict[str, Any] = dict(fields)
    for name, value in fields.items():
        if name in FLOATS:
            found[name] = tuple(array("d", b64decode(value)))
        elif isinstance(value, list):
            found[name] = tuple(value)
    return found
