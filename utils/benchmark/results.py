"""Rows of a benchmark, the ratios that matter with their targets, and how both are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.benchmark.ours import NAME as OURS
from utils.benchmark.paper import NAME as PAPER
from utils.benchmark.subjects import Subject
from utils.benchmark.timing import Times

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """A subject with its times and costs: FLOPs and bytes of memory of one call, None where unknown."""

    subject: Subject
    times: Times
    flops: int | None
    peak_bytes: int | None

    @property
    def median(self) -> float:
        """Milliseconds a call."""
        return self.times.summary()["median"]

    @property
    def pairs_per_second(self) -> float:
        """At the median time."""
        return 1000 * self.subject.batch / self.median

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        subject = self.subject
        return {
            "key": subject.key,
            "codec": subject.codec,
            "operation": subject.operation,
            "steps": subject.steps,
            "height": subject.height,
            "width": subject.width,
            "precision": subject.precision,
            "batch": subject.batch,
            "milliseconds": self.times.summary(),
            "turn_milliseconds": [1000 * value for value in self.times.seconds],
            "calls_per_turn": self.times.calls,
            "pairs_per_second": self.pairs_per_second if subject.operation == "train" else None,
            "parameters": subject.parameters,
            "gflop": None if self.flops is None else self.flops / 1e9,
            "peak_mib": None if self.peak_bytes is None else self.peak_bytes / MIB,
            "file_bytes": subject.file_bytes,
            "note": subject.note,
        }


@dataclass(frozen=True)
class Goal:
    """A ratio of two rows at one size: of times, which should be at most `bound`, or of throughputs, at least.

    `ours` and `theirs` are (operation, steps, precision).
    """

    name: str
    ours: tuple[str, int | None, str]
    theirs: tuple[str, int | None, str]
    bound: float
    of_throughput: bool = False


def goals(paper_steps: int) -> list[Goal]:
    """The ratios of a session, ours over the published codec's, which decodes in `paper_steps` steps."""
    decode = ("decode", paper_steps, "float32")
    return [
        Goal("decode_vs_dicm_paper", ("decode", 1, "float32"), decode, 1 / 1000),
        Goal("decode_bf16_vs_dicm_paper", ("decode", 1, "bfloat16"), decode, 1 / 2500),
        Goal("encode_vs_dicm_paper", ("encode", None, "float32"), ("encode.published", None, "float32"), 1 / 8),
        Goal("train_vs_dicm_paper", ("train", None, "float32"), ("train", None, "float32"), 15.0, True),
    ]


def further_goals() -> list[Goal]:
    """Ratios that are reported beside the others: the same question with other terms of comparison."""
    contexts = ("encode.published_with_contexts", None, "float32")
    return [
        Goal("encode_vs_dicm_paper_with_contexts", ("encode", None, "float32"), contexts, 1 / 8),
        Goal("encode_vs_dicm_paper_with_coding", ("encode", None, "float32"), ("encode", None, "float32"), 1 / 8),
        Goal("train_bf16_vs_dicm_paper", ("train", None, "bfloat16"), ("train", None, "bfloat16"), 15.0, True),
    ]


def judge(rows: Sequence[Row], goal: Goal) -> dict[str, Any] | None:
    """The ratio of medians, the quartiles of the ratios turn by turn, and whether it is met; None without its rows.

    At the size of the first rows in which both sides are found.
    """
    ours, theirs = (_find(rows, codec, key) for codec, key in ((OURS, goal.ours), (PAPER, goal.theirs)))
    if ours is None or theirs is None:
        return None
    a, b = (np.asarray(row.times.seconds) / row.subject.batch for row in (ours, theirs))
    per_turn = b / a if goal.of_throughput else a / b
    value = ours.pairs_per_second / theirs.pairs_per_second if goal.of_throughput else ours.median / theirs.median
    return {
        "value": value,
        "q1": float(np.percentile(per_turn, 25)),
        "q3": float(np.percentile(per_turn, 75)),
        "bound": goal.bound,
        "met": value >= goal.bound if goal.of_throughput else value <= goal.bound,
        "ours": ours.subject.key,
        "theirs": theirs.subject.key,
    }


def _find(rows: Sequence[Row], codec: str, key: tuple[str, int | None, str]) -> Row | None:
    matching = (
        row
        for row in rows
        if row.subject.codec == codec and (row.subject.operation, row.subject.steps, row.subject.precision) == key
    )
    return next(matching, None)


COLUMNS = (
    "codec", "operation", "steps", "size", "precision", "median ms", "quartiles", "turns x calls", "pairs/s",
    "M parameters", "GFLOP", "peak MiB", "bytes",
)  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, and their notes."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    notes: dict[str, str] = {}
    for row in rows:
        subject, times = row.subject, row.times.summary()
        cells = (
            subject.codec,
            subject.operation,
            _or_dash(subject.steps, "d"),
            f"{subject.height}x{subject.width}" + (f" x {subject.batch}" if subject.operation == "train" else ""),
            subject.precision,
            f"{times['median']:.4g}",
            f"{times['q1']:.4g} to {times['q3']:.4g}",
            f"{len(row.times.seconds)} x {row.times.calls}",
            f"{row.pairs_per_second:.4g}" if subject.operation == "train" else "-",
            _or_dash(None if subject.parameters is None else subject.parameters / 1e6, ".3g"),
            _or_dash(None if row.flops is None else row.flops / 1e9, ".4g"),
            _or_dash(None if row.peak_bytes is None else row.peak_bytes / MIB, ".3g"),
            _or_dash(subject.file_bytes, "d"),
        )
        lines.append("| " + " | ".join(cells) + " |")
        if subject.note:
            notes.setdefault(f"{subject.codec} {subject.operation}", subject.note)
    return "\n".join([*lines, "", *(f"- {name}: {note}" for name, note in notes.items())])


def verdicts(judged: dict[str, dict[str, Any] | None]) -> str:
    """One line a ratio: value, quartiles over the turns, target, met or missed."""
    lines = []
    for name, verdict in judged.items():
        if verdict is None:
            lines.append(f"{name}: not measured")
            continue
        target = f">= {verdict['bound']:g}" if verdict["bound"] > 1 else f"<= 1/{1 / verdict['bound']:.0f}"
        value, q1, q3 = (_ratio(verdict[key]) for key in ("value", "q1", "q3"))
        met = "met" if verdict["met"] else "missed"
        lines.append(f"{name}: {value} (turn by turn {q1} to {q3}), target {target}: {met}")
    return "\n".join(lines)


def _ratio(value: float) -> str:
    return f"{value:.3g}" if value >= 1 else f"1/{1 / value:.4g}"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
