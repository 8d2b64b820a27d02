"""scripts/benchmark.py: rows take turns, the budget is kept and what did not fit is named, ratios are those of rows."""

import time
from collections.abc import Callable

import pytest
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


def test_ratios_are_those_of_the_rows() -> None:
    times = {
        "ours decode 1": 0.05,
        "dicm decode 2": 1.0,
        "dicm decode 5": 2.5,
        "ours encode": 0.03,
        "avif encode": 0.02,
    }
    rows = [benchmark.Row(name, lambda: None, seconds=[value, value]) for name, value in times.items()]
    found = benchmark.ratios(rows)
    # 200 steps: 2.5 s for 5 and half a second for each of the other 195.
    assert found["decode, 1 step, against dicm_paper's 200"]["ratio"] == pytest.approx(0.05 / 100)
    assert found["encode against AVIF"]["ratio"] == pytest.approx(1.5) and len(found) == 2
