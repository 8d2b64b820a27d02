"""What a study found: BD-rates between the curves of two variants seed by seed, and what side images do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utils.report.rd import Curve, bjontegaard, curves, value_of

Points = Sequence[Mapping[str, Any]]
METRICS = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM"}


@dataclass(frozen=True)
class BdRate:
    """In percent for each seed (negative: fewer bits than the reference at equal quality); None with a reason."""

    seeds: dict[int, float | None]
    reasons: dict[int, str]

    @property
    def mean(self) -> float | None:
        """Over the seeds that have one."""
        values = [value for value in self.seeds.values() if value is not None]
        return sum(values) / len(values) if values else None

    @property
    def cell(self) -> str:
        """For the table: the mean, every seed's value if there are several, and why others have none."""
        values = [f"{value:+.1f}" for value in self.seeds.values() if value is not None]
        of_each = f" ({', '.join(values)})" if len(self.seeds) > 1 else ""
        parts = [] if self.mean is None else [f"{self.mean:+.1f} %{of_each}"]
        grouped: dict[str, list[str]] = {}
        for seed, reason in self.reasons.items():
            grouped.setdefault(reason, []).append(str(seed))
        parts += [f"none for seed {', '.join(seeds)}: {reason}" for reason, seeds in grouped.items()]
        return "; ".join(parts)


def bd_rate(reference: Mapping[int, Points], test: Mapping[int, Points], seeds: Sequence[int], metric: str) -> BdRate:
    """BD-rate of `test` against `reference` (seed -> points of a summary), each seed against the same one."""
    found: dict[int, float | None] = {}
    reasons: dict[int, str] = {}
    for seed in seeds:
        found[seed], reason = _of_seed(reference.get(seed), test.get(seed), metric)
        if reason:
            reasons[seed] = reason
    return BdRate(found, reasons)


def _of_seed(reference: Points | None, test: Points | None, metric: str) -> tuple[float | None, str]:
    if test is None:
        return None, "not measured"
    if reference is None:
        return None, "the reference was not measured"
    lines = []
    for points in (reference, test):
        line = main_curve(points, metric)
        if line is None:
            return None, str(points[0]["metrics"].get(metric, {}).get("unavailable", "no such metric"))
        lines.append(line)
    difference = bjontegaard(lines[0], lines[1], metric)
    return difference.rate, difference.reason_rate


def main_curve(points: Points, metric: str) -> Curve | None:
    """The curve with the right side image, or with none of a model that takes none; None without the metric."""
    return max(curves(points, metric), key=lambda curve: len(curve.bpp), default=None)


@dataclass(frozen=True)
class SideEffect:
    """PSNR in dB at the middle rate relative to no side image: with the correct one, and with a wrong one."""

    correct: float | None
    shuffled: float | None


def side_effect(points: Points) -> SideEffect:
    """What is missing (a model without side dropout or without side image, pairs of one group) is None."""
    middle = next(((p["checkpoint"], p["rate"]) for p in points if p["side"] == "none"), None)
    value = {
        point["side"]: value_of(point["metrics"].get("psnr"))
        for point in points
        if (point["checkpoint"], point["rate"]) == middle
    }
    none = value.get("none")
    found = {side: value.get(side) for side in ("correct", "shuffled")}
    return SideEffect(**{side: None if v is None or none is None else v - none for side, v in found.items()})


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of those that are there; None if none is."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
