"""Two hundred answers of status 200 that are none: made from right ones, by a seed.

Each is wrong by construction: cut off, of another type somewhere, no JSON, no text, or of another
model than "teacher".
"""

import copy
import json
import random

# What no field may be, beside what a field's own line leaves out.
WRONG = (0, 1.5, True, [], {}, "text", [None], None, [[]], {"a": 1})
PAGES = (
    b"",
    b" ",
    b"null",
    b"true",
    b"17",
    b"[]",
    b"{}",
    b'""',
    b"NaN",
    b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    b"<!DOCTYPE html>\n<title>Login</title>",
    b"upstream connect error or disconnect/reset before headers",
    b'{"error": {"message": "overloaded", "code": 503}}',
    b"[" * 100_000,
    b'{"choices": ' * 5_000,
    b"data: {}\n\ndata: [DONE]\n\n",
    b"\x00" * 64,
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf",
    b"{'choices': [{'text': 'answer 4'}]}",
    b'{"choices": [{"text": "answer 4", "message": {"content": "4"}}],}',
)
OTHER_MODELS = ("student", "teacher2", "gpt-4", "", "teach", "org/other")
SURROGATES = (r"4 \ud83d", r"\udc00 4", r"a\ud800b", r"\ude00\ud83d")


def right(is_chat):
    """A right answer."""
    choice = {"index": 0, "finish_reason": "stop"}
    if is_chat:
        choice["message"] = {"role": "assistant", "content": "answer 4"}
    else:
        choice["text"] = "answer 4"
    return {"id": "x", "created": 0, "model": "teacher", "choices": [choice]}


def malformed(is_chat, seed=0, num=200):
    """(what is wrong, body) of `num` answers."""
    rng = random.Random(f"{seed}/{is_chat}")
    found = [(f"page {i}", page) for i, page in enumerate(PAGES)]
    found += list(_of_another_type(is_chat))
    whole = json.dumps(right(is_chat))
    for name in OTHER_MODELS:
        found.append((f"model {name!r}", json.dumps({**right(is_chat), "model": name}).encode()))
    for text in SURROGATES:
        found.append((f"surrogate {text}", whole.replace("answer 4", text).encode()))
    # The last brace is missing at least: no beginning of an object is one.
    while len(found) < num:
        if rng.random() < 0.7:
            end = rng.randrange(1, len(whole))
            found.append((f"cut at {end}", whole[:end].encode()))
        else:
            found.append(("noise", b"\x80" + rng.randbytes(rng.randrange(1, 200))))
    return found[:num]


def _of_another_type(is_chat):
    text = ("message", "content") if is_chat else ("text",)
    allowed = {
        ("choices",): (),
        ("choices", 0): (),
        ("choices", 0, *text): ("text", None),
        ("choices", 0, "finish_reason"): ("text", None),
        ("model",): (None,),
    }
    if is_chat:
        allowed["choices", 0, "message"] = ()
    for path, fine in allowed.items():
        for value in WRONG:
            # True == 1 and 0 == False: compared as JSON.
            if json.dumps(value) not in {json.dumps(each) for each in fine}:
                yield f"{path} {value!r}", json.dumps(_with(right(is_chat), path, value)).encode()
    for path in allowed:
        if path[-1] in ("choices", "message", "content", "text"):
            yield f"{path} missing", json.dumps(_without(right(is_chat), path)).encode()


def _with(value, path, new):
    value = copy.deepcopy(value)
    inner = value
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = new
    return value


def _without(value, path):
    value = copy.deepcopy(value)
    inner = value
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return value
