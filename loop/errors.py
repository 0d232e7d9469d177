"""One tree of errors. Each class also is the standard type a caller would expect.

A message says where, got, expected, remedy.
"""

from __future__ import annotations


class OuroloopError(Exception):
    """Base of every error that Ouroloop raises on purpose."""

    # What the command line ends with: 1, a bug or a failed engine.
    exit_code = 1


# --- a person can repair these ---


class UserError(OuroloopError):
    """Something the user can repair; printed without a traceback, exit code 2."""

    exit_code = 2


class MissingExtraError(UserError, ImportError):
    """A command needs packages of an extra that is not installed."""


class RecipeError(UserError, ValueError):
    """A recipe is wrong: unknown key, impossible value, missing file."""


class DataError(UserError, ValueError):
    """An input file is wrong: bad JSON, missing field, no problems."""


class CheckpointError(UserError, ValueError):
    """A checkpoint cannot be used: no weights, no stop token, an unsafe format."""


class UnprovenWeightsError(UserError, RuntimeError):
    """Training changed too little to tell the new weights from those that it started from."""


class RunStateError(UserError, RuntimeError):
    """A run directory is in the wrong state: locked, missing, made by another recipe."""


class StorageError(UserError, OSError):
    """A disk is full, or a folder cannot be written to."""


class DamagedError(RunStateError):
    """A file of a run is not what was written to it."""


# --- engines and training ---


class EngineError(OuroloopError, RuntimeError):
    """An engine failed: a request, or the whole process."""


class PromptTooLongError(EngineError):
    """A prompt and its completion do not fit into the context.

    It costs one sample and never the run.
    """


class NoAnswerError(EngineError):
    """No server gave a usable answer to a request.

    It costs one sample, which is counted, and the run only where too many are lost.
    """


class AnswerTooLargeError(PromptTooLongError):
    """An engine answered one request with more than its pipe takes.

    It costs one sample and never the run.
    """


class EngineLostError(EngineError):
    """An engine's process died, or was ended because it gave no sign of progress.

    The same requests may be asked again of a new one.
    """


class AnswerLostError(EngineError):
    """An answer was damaged on its way; the engine lives. The request may be asked again."""


class StaleWeightsError(EngineError):
    """The weight-sync check saw an engine answer with other weights than those it loaded."""


class TrainingError(OuroloopError, RuntimeError):
    """The training process failed."""


class OutOfMemoryError(TrainingError, MemoryError):
    """Training needed more memory than there is, or was killed by the system for its memory."""


class TrainerSilentError(TrainingError, TimeoutError):
    """A trainer gave no sign of progress for too long, and was ended."""


class NotFiniteError(TrainingError):
    """A loss or a weight is NaN or infinite: the round is rejected, and the run goes on."""


def named(name: str, message: str, otherwise: type[OuroloopError]) -> OuroloopError:
    """The error that a child process reported by its class's name."""
    kind = globals().get(name)
    if isinstance(kind, type) and issubclass(kind, OuroloopError):
        return kind(message)
    return otherwise(message)
