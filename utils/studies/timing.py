"""Seconds that a training step takes, from the clock times in the TensorBoard events of finished runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from utils.run import write_json

TAG = "train/loss"


@dataclass(frozen=True)
class Pace:
    """Seconds a step: the median over `intervals` between two logged steps, and the quartiles."""

    median: float
    low: float
    high: float
    intervals: int


def intervals(run: Path) -> list[float]:
    """Seconds a step between logged steps that follow each other, of every process that trained the run."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: list[float] = []
    for file in sorted(run.glob("events.out.tfevents.*")):
        logged = [
            (event.step, event.wall_time)
            for event in EventFileLoader(str(file)).Load()
            if any(value.tag == TAG for value in event.summary.value)
        ]
        found += [(end - begin) / (last - first) for (first, begin), (last, end) in pairwise(logged) if last > first]
    return found


def pace_of(runs: Iterable[Path]) -> Pace | None:
    """The pace of all these runs together; None if they logged fewer than two steps each."""
    seconds = [value for run in runs for value in intervals(run)]
    if not seconds:
        return None
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return Pace(float(median), float(low), float(high), len(seconds))


def pinned(file: Path, runs: dict[str, list[Path]]) -> dict[str, Pace]:
    """The pace of each variant's `runs`, kept in `file` once it is measured.

    Steps under equal seconds follow from it: were it measured anew with each further seed, so would they change, and
    no run could be found again.
    """
    known = {name: Pace(**values) for name, values in json.loads(file.read_text()).items()} if file.is_file() else {}
    for name in runs.keys() - known.keys():
        pace = pace_of(runs[name])
        if pace is not None:
            known[name] = pace
    write_json(file, {name: asdict(pace) for name, pace in sorted(known.items())})
    return {name: known[name] for name in runs if name in known}


def equal_seconds(steps: int, baseline: Pace, pace: dict[str, Pace]) -> dict[str, int]:
    """The steps of each variant that take as long as `steps` of the baseline."""
    return {name: max(1, round(steps * baseline.median / own.median)) for name, own in pace.items()}
