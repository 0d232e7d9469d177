"""The errors of this room. `evals` does not know `loop`.

Which turns a DataError into exit code 2.
"""

from __future__ import annotations


class DataError(ValueError):
    """An input file or a task's settings are wrong.

    The message says where, got, expected and remedy.
    """


class SandboxError(RuntimeError):
    """Untrusted text could not be judged: the worker died, ran out of memory or raised."""


class SandboxTimeout(SandboxError, TimeoutError):
    """Untrusted text took too long; the worker that judged it was killed."""
