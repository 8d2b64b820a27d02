"""What every entry point does with an error that a user can act on: one line on stderr, exit status 1."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable

from utils.errors import ProjectError
from utils.failures import explain


def run(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with its status. A ProjectError, a full disk, a dead partner process and Ctrl-C become one
    line on stderr; other exceptions are bugs."""
    # A dependency of CompressAI uses what torch deprecates; stderr is for what the reader can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    try:
        status = main()
    except ProjectError as error:
        status = _say(str(error))
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        status = 1
    except (RuntimeError, OSError) as error:
        sentence = explain(error)
        if sentence is None:
            raise
        status = _say(sentence)
    sys.exit(status or 0)


def _say(sentence: str) -> int:
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    return 1
