"""`ouroloop`: run one command, and say what went wrong in one sentence."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from ouroloop.loop.commands.parser import parser
from ouroloop.loop.commands.shared import Command, root_of
from ouroloop.loop.errors import OuroloopError
from ouroloop.loop.extras import explain, extra_of
from ouroloop.loop.folder.storage import storage_error
from ouroloop.loop.recipes.secrets import redacted
from ouroloop.loop.views.printable import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except OuroloopError as error:
        # The message is enough for a person; whoever debugs wants the traceback.
        if os.environ.get("OUROLOOP_DEBUG"):
            raise
        said = "\n".join([str(error), *getattr(error, "__notes__", ())])
        print(printable(f"ouroloop: {redacted(said)}"), file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        # A package of an extra that was not asked for; anything else is a bug and keeps its trace.
        extra = extra_of(error.name)
        if extra is None:
            raise
        print(f"ouroloop: {explain('this command', [str(error.name)], extra)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output, such as `head`, has enough: that is no failure.
        return 0
    except OSError as error:
        known = storage_error(error, root_of(options))
        if known is None or os.environ.get("OUROLOOP_DEBUG"):
            raise
        print(printable(f"ouroloop: {known}"), file=sys.stderr)
        return known.exit_code
    except KeyboardInterrupt:
        # `run` and `resume` end otherwise: see `interrupts`.
        print("ouroloop: interrupted.", file=sys.stderr)
        # As a shell reports a process that a signal ended: 128 and the signal's number.
        return 128 + signal.SIGINT


if __name__ == "__main__":
    raise SystemExit(main())
