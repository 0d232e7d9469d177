"""Programs of a model are run against tests; none gets out or cheats its way through."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from hostile_texts import few_texts

from ouroloop.evals.code_runner import Limits, Pair, has_namespaces, run_tests
from ouroloop.evals.errors import DataError
from ouroloop.evals.graders import last_code_block, read_tests
from ouroloop.evals.registry import build_grader
from ouroloop.evals.tasks import Problem

# Every test starts processes: see `make test-fast`.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="resource limits are POSIX's"),
]

TESTS = ["assert add(2, 3) == 5", "assert add(-1, 1) == 0"]
QUICK = Limits(seconds=2.0, memory_bytes=2**29, output_bytes=2**16)


def passes(code: str, tests: list[str | Pair] | None = None) -> bool:
    return run_tests(code, tests or list(TESTS), QUICK).passed


def test_a_right_program_passes_and_a_wrong_one_does_not():
    assert passes("def add(a, b):\n    return a + b")
    assert not passes("def add(a, b):\n    return a - b")
    assert not passes("def add(a, b:\n    return a + b")
    assert not passes("def sub(a, b):\n    return a + b")
    assert passes("import math\ndef root(x):\n    return math.sqrt(x)", ["assert root(9) == 3"])


def test_asserts_of_any_form_are_run():
    close = ["import math\nassert math.isclose(third(), 1 / 3)"]
    assert passes("def third():\n    return 1 / 3", close)
    assert not passes("def third():\n    return 0.3", close)


def test_pairs_of_input_and_output_are_compared_line_by_line():
    double = "for line in open(0):\n    print(int(line) * 2)"
    assert passes(double, [Pair("1\n2\n", "2\n4"), Pair("5", "10\n")])
    assert not passes(double, [Pair("1\n", "3\n")])
    assert not passes("print(2)\nraise ValueError", [Pair("1\n", "2\n")])


CHEATS = {
    "exit": "import sys\nsys.exit(0)",
    "hard exit": "import os\nos._exit(0)",
    "equal to all": "class E:\n  def __eq__(self, o): return True\ndef add(a, b): return E()",
    "any repr": "class E(int):\n  def __repr__(self): return 'x'\ndef add(a, b): return E()",
    "patched json": "import json\njson.dumps = lambda x: '{}'\ndef add(a, b): return 1",
    "patched builtins": "import builtins\nbuiltins.repr = lambda x: '5'\ndef add(a, b): return 1",
    "patched error": "import builtins\nbuiltins.AssertionError = Exception\ndef add(a,b): return 1",
    "writes the answer": "import os\n[os.write(fd, b'{}') for fd in range(3, 9)]\nos._exit(0)",
    "frames": "import sys\ndef add(a, b):\n  return sys._getframe(1).f_locals.get('expected')",
    "finally": "def add(a, b):\n  try:\n    return 1\n  finally:\n    raise SystemExit(0)",
}
BOMBS = {
    "loop": "while True: pass",
    "loop in a call": "def add(a, b):\n  while True: pass",
    "catches all": "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
    "sleep": "import time\ntime.sleep(60)",
    "memory": "x = bytearray(10**10)\ndef add(a, b): return a + b",
    "memory by and by": "x = []\nwhile True: x.append('y' * 10**7)",
    "forks": "import os\nwhile True: os.fork()",
    "threads": "import threading\nwhile True: threading.Thread(target=lambda: None).start()",
    "processes": "import subprocess\nsubprocess.run(['true'])\ndef add(a, b): return a + b",
    "shell": "import os\nos.system('true')\ndef add(a, b): return a + b",
    "recursion": "def add(a, b): return add(a, b)",
    "c stack": "x = eval('(' * 10**5)\ndef add(a, b): return a + b",
    "signals": "import os, signal\nos.kill(os.getppid(), 9)\ndef add(a, b): return a + b",
    "ctypes": "import ctypes\nctypes.CDLL(None)\ndef add(a, b): return a + b",
    "long repr": "def add(a, b): return 'x' * 10**8",
    "socket": "import socket\nsocket.create_connection(('::1', 9))\ndef add(a, b): return a+b",
    "socket made": "import socket\nsocket.socket()\ndef add(a, b): return a + b",
}


@pytest.mark.parametrize("name", CHEATS)
def test_no_trick_passes_tests_that_it_does_not_solve(name):
    assert not passes(CHEATS[name])


# Ended by the clock, which need not be waited for as long as a right program may take.
BY_THE_CLOCK = ("loop", "loop in a call", "catches all", "sleep", "threads")
BRIEF = replace(QUICK, seconds=0.5)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_its_limits_and_does_not_pass(name):
    start = time.monotonic()
    limits = BRIEF if name in BY_THE_CLOCK else QUICK
    assert not run_tests(BOMBS[name], list(TESTS), limits).passed
    assert time.monotonic() - start < 15


def test_endless_output_is_cut_and_too_much_of_it_fails():
    start = time.monotonic()
    assert run_tests("while True: print('x' * 999)", [Pair("", "x")], QUICK).passed is False
    assert time.monotonic() - start < 15


def test_nothing_outside_the_programs_folder_is_read_or_written(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("42")
    for attempt in (
        f"open({str(secret)!r}).read()",
        f"__import__('os').listdir({str(tmp_path)!r})",
        f"__import__('pathlib').Path({str(secret)!r}).read_text()",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"__import__('os').open({str(tmp_path / 'new')!r}, 65)",
        f"__import__('os').remove({str(secret)!r})",
        "open('/etc/passwd').read()",
        f"__import__('os').symlink({str(secret)!r}, 'link') or open('link').read()",
    ):
        code = f"x = {attempt}\ndef add(a, b): return a + b"
        assert run_tests(code, list(TESTS), QUICK).reason == "PermissionError", attempt
    assert secret.read_text() == "42" and not (tmp_path / "new").exists()
    assert passes("open('mine', 'w').write('1')\ndef add(a, b): return a + b"), "its own it may"


def test_the_environment_is_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-value")
    code = "import os\ndef key(): return os.environ.get('OPENAI_API_KEY')"
    assert passes(code, ["assert key() == None"])


def test_no_process_outlives_its_test(tmp_path: Path):
    if not has_namespaces():
        pytest.skip("unshare may make no namespaces here")
    before = set(os.listdir("/proc"))
    passes(BOMBS["loop"])
    time.sleep(0.3)
    new = [pid for pid in set(os.listdir("/proc")) - before if pid.isdigit()]
    for pid in new:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        assert b"code_child" not in command


def test_the_last_code_block_of_a_text_is_graded():
    grader = build_grader("code", {"seconds": 2.0})
    problem = Problem("p", "Add.", None, metadata={"tests": TESTS})
    right = (
        "First:\n```python\nx = 1\n```\nThen:\n```python\ndef add(a, b):\n    return a + b\n```\n"
    )
    assert grader.grade(problem, right).correct is True
    assert grader.grade(problem, right + "```\nx = 1\n```").correct is False
    assert grader.grade(problem, "The answer is 5.").correct is False
    assert grader.grade(Problem("p", "Add.", None), right).correct is None
    spaced = right.replace("a + b", "a+b  # the sum")
    assert grader.grade(problem, spaced).answer == grader.grade(problem, right).answer


def test_tests_of_another_form_are_refused():
    with pytest.raises(DataError, match="expected assert"):
        read_tests(Problem("p", "?", None, metadata={"tests": [{"input": "1"}]}))
    pair = {"stdin": "1", "stdout": "2"}
    assert read_tests(Problem("p", "?", None, metadata={"tests": pair})) == [Pair("1", "2")]


def test_no_hostile_text_raises_or_passes():
    problem = Problem("p", "Add.", None, metadata={"tests": TESTS})
    grader = build_grader("code", {"seconds": 1.0})
    for text in few_texts(40):
        last_code_block(text)
    for text in few_texts(400)[::12]:
        assert grader.grade(problem, f"```python\n{text}\n```").correct is False


# ----- the judge: another model behind an address -----


class Server(BaseHTTPRequestHandler):
    asked: ClassVar[list[dict]] = []
    says = "It adds up.\nverdict: right"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(body)
        reply = json.dumps({"choices": [{"message": {"content": type(self).says}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args):
        pass


def test_a_judge_reads_the_rubric_and_its_verdict_is_read_from_the_last_line():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/v1#judge"
        grader = build_grader("judge", {"model": address, "rubric": "Be polite."})
        problem = Problem("p", "Thank {answer} him.", "Thanks")
        for says, correct in (
            ("It is polite.\nverdict: right", True),
            ("Rude.\nverdict: wrong", False),
            ("That is right, I think", None),
        ):
            Server.says = says
            assert grader.grade(problem, f"Thank you. {says}").correct is correct
        content = Server.asked[0]["messages"][0]["content"]
        assert "Be polite." in content and "Thank you." in content
        assert "Thank {answer} him." in content, "braces of a question stay as they are"
        count = len(Server.asked)
        grader.grade(problem, "Thank you. That is right, I think")
        assert len(Server.asked) == count, "what was judged is not asked again"
        for text in few_texts(400):
            assert grader.grade(problem, text).correct is None
    finally:
        server.shutdown()
        server.server_close()
