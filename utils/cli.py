"""What every entry point does with an error that a user can act on: one line on stderr, exit status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable

from utils.errors import ProjectError


def run(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with its status. A ProjectError becomes one line on stderr; other exceptions are bugs."""
    try:
        status = main()
    except ProjectError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 1
    except BrokenPipeError:
        status = 1
    sys.exit(status or 0)
