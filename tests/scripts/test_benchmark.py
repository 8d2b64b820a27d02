"""scripts/benchmark.py: rows take turns, the budget is kept and what did not fit is named, ratios are those of rows."""

import time
from collections.abc import Callable

from script_files import load_script

benchmark = load_script("benchmark")


def sleeper(calls: list[str], name: str, seconds: float = 0.0) -> Callable[[], None]:
    def run() -> None:
        calls.append(name)
        time.sleep(seconds)

    return run


def test_what_does_not_fit_is_named_and_what_fits_is_told() -> None:
    told: list[str] = []
    rows = [benchmark.Row("quick", sleeper([], "q", 0.12)), benchmark.Row("slow", sleeper([], "s", 60))]
    begun = time.monotonic()
    assert benchmark.measure(rows, 2, begun + 2, told.append) == ["slow"]
    assert time.monotonic() - begun < 10 and told[0].startswith("quick") and len(told) == 1
