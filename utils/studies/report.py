"""The report of a study: a row for each budget and variant, in Markdown and for JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from config import Config
from modules.codec import build_codec
from utils.markdown import table
from utils.studies.outcome import METRICS, BdRate, Points, SideEffect, bd_rate, mean_of, side_effect
from utils.studies.perform import configuration, read_summary
from utils.studies.plan import Trial
from utils.studies.table import Study
from utils.studies.timing import Pace, pace_of

BUDGETS = {"pairs": "equal pairs", "seconds": "equal seconds"}


@dataclass
class Row:
    """A variant under a budget, over all seeds. `bd_rates[reference][metric]`; `points` are those of its summaries."""

    budget: str
    variant: str
    parameters: int
    models: int
    steps: int
    batch: int
    pace: Pace | None
    points: dict[int, Points]
    bd_rates: dict[str, dict[str, BdRate]] = field(default_factory=dict)
    sides: list[SideEffect] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """Of training one model, by its own pace."""
        return None if self.pace is None else self.steps * self.pace.median

    def cells(self, study: Study) -> list[str]:
        """For the table; see `columns`."""
        pace = "-" if self.pace is None else f"{self.pace.median:.3f} [{self.pace.low:.3f}, {self.pace.high:.3f}]"
        each = f"{self.models} x " * (self.models > 1)
        cells = [BUDGETS[self.budget], self.variant, f"{each}{self.parameters:,}"]
        cells += [pace, str(self.steps), f"{each}{self.steps * self.batch:,}"]
        cells.append("-" if self.seconds is None else f"{self.seconds:.0f}")
        for reference in study.references:
            cells += [self.bd_rates[reference][metric].cell if reference != self.variant else "-" for metric in METRICS]
        if study.wrong_sides:
            cells += [_decibels([side.correct for side in self.sides]), _decibels([s.shuffled for s in self.sides])]
        return cells

    def as_json(self) -> dict[str, Any]:
        """Everything, with the mean of each BD-rate."""
        result = asdict(self) | {"seconds": self.seconds}
        for reference, metrics in self.bd_rates.items():
            for metric, found in metrics.items():
                result["bd_rates"][reference][metric]["mean"] = found.mean
        return result


def columns(study: Study) -> list[str]:
    """The head of the table."""
    names = ["budget", "variant", "parameters", "seconds a step", "steps", "pairs", "training seconds"]
    for reference in study.references:
        names += [f"{label} BD-rate against {reference}" for label in METRICS.values()]
    return names + ["side image against none", "wrong side image against none"] * study.wrong_sides


def rows_of(study: Study, budget: str, trials: Sequence[Trial]) -> list[Row]:
    """The rows of one budget."""
    rows: dict[str, Row] = {}
    runs: dict[str, list[Any]] = {}
    for trial in trials:
        name = trial.variant.name
        if name not in rows:
            config = configuration(trial.training()[0])
            rows[name] = Row(
                budget=budget,
                variant=name,
                parameters=_parameters(config),
                models=len(trial.runs),
                steps=trial.steps,
                batch=config.train.batch_size,
                pace=None,
                points={},
            )
        runs[name] = runs.get(name, []) + trial.runs
        summary = read_summary(trial)
        if summary is not None:
            rows[name].points[trial.seed] = summary["points"]
    seeds = list(dict.fromkeys(trial.seed for trial in trials))
    for name, row in rows.items():
        row.pace = pace_of(runs[name])
        row.sides = [side_effect(points) for points in row.points.values()]
        for reference in study.references:
            other = rows[reference].points if reference in rows else {}
            row.bd_rates[reference] = {metric: bd_rate(other, row.points, seeds, metric) for metric in METRICS}
    return list(rows.values())


def judge(study: Study, rows: Sequence[Row]) -> list[str]:
    """A sentence for each variant that needs more bits than the study allows, or of which it cannot be said."""
    sentences = []
    for row in rows:
        if study.allowed is None or row.variant == study.references[0]:
            continue
        mean = row.bd_rates[study.references[0]]["psnr"].mean
        if mean is None:
            sentences.append(f"{row.variant} has no PSNR BD-rate to hold against the {study.allowed:g} % allowed.")
        elif mean > study.allowed:
            sentences.append(f"{row.variant} needs {mean:+.1f} % bits by PSNR; {study.allowed:g} % are allowed.")
    return sentences


def lines_of(study: Study, trials: Sequence[Trial], rows: Sequence[Row], command: str) -> list[str]:
    """The Markdown, without failures."""
    summaries = [summary for trial in trials if (summary := read_summary(trial)) is not None]
    seeds = ", ".join(dict.fromkeys(str(trial.seed) for trial in trials))
    data = summaries[0]["dataset"] if summaries else None
    pairs = f"{data['pairs']} pairs of {data['groups']} recordings of `{data['split']}`" if data else "nothing"
    environments = [
        json.loads(file.read_text())
        for trial in trials
        for run in trial.runs
        if (file := run / "environment.json").is_file()
    ]
    machines = dict.fromkeys(f"{e['processor']}, {e['threads']} threads" for e in environments)
    commits = dict.fromkeys(str(e["commit"]) for e in [*environments, *(s["environment"] for s in summaries)])
    start = f" from the weights of `{study.init}`" if study.init else ""
    how = "Seconds a step: median and quartiles between logged steps of a row's own runs."
    if len(study.budgets) > 1:
        how += (
            " Equal seconds: each variant's steps take as long as the baseline's, at the seconds a step of the runs of "
            "equal pairs."
        )
    if study.wrong_sides:
        how += " Side images: PSNR at the middle rate, mean over seeds."
    return [
        f"`{command}`",
        "",
        f"{study.asks} Preset {study.preset}{start} with `{' '.join(study.fields)}`; seeds {seeds}; measured on "
        f"{pairs} from true files; {'; '.join(machines) or 'nothing trained'}; code {', '.join(commits) or 'unknown'}. "
        f"{how} "
        "BD-rates: mean over seeds, each against the reference of the same seed, and in brackets every seed's; "
        "negative: fewer bits.",
        "",
        *table(columns(study), [row.cells(study) for row in rows]),
    ]


def _parameters(config: Config) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_codec(config).parameters())


def _decibels(values: Sequence[float | None]) -> str:
    mean = mean_of(values)
    return "-" if mean is None else f"{mean:+.2f} dB"
