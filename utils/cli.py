"""What every entry point shares: how its command line is read, and one line on stderr with exit status 1 for an error
that a user can act on."""

from __future__ import annotations

import argparse
import io
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from utils.errors import ProjectError, explain

DASH = "Write a file whose name begins with - as ./-NAME, or put it behind all options and a --: OPTIONS -- -NAME"

DELAY = 2.0
"""Seconds that one picture may take without a progress bar."""


class Parser(argparse.ArgumentParser):
    """A parser of whole option names; its help is the script's docstring, and how to give names such as -a.png."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            epilog=f"{DASH}.",
        )

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with status 2; with a word for names that look like options."""
        options = self._option_string_actions
        dashed = [word for word in sys.argv[1:] if re.match(r"-[^-\d.]", word) and word.split("=")[0] not in options]
        super().error(f"{message}. {DASH}" if dashed else message)


def bar(label: str, unit: str) -> Callable[..., Any]:
    """tqdm's progress bar, on a terminal and after DELAY; called with a sequence, or with total=N and updated."""
    from tqdm import tqdm

    return partial(tqdm, desc=label, unit=unit, leave=False, disable=None, delay=DELAY)


def run(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with its status. A ProjectError, a full disk, a dead partner process and Ctrl-C become one
    line on stderr; other exceptions are bugs. What the terminal cannot show of a name is printed as \\x and digits."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
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
