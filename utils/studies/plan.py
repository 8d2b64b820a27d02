"""The commands of a study: for each variant, seed and number of steps, what train.py and evaluate.py are told."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from utils.errors import ConfigError
from utils.studies.table import Study, Variant

ROOT = Path(__file__).resolve().parents[2]
WARMUP, RATE_WARMUP, DECAY = 0.05, 0.15, 0.8
"""Shares of a run: the learning rate rises, bits become dearer, the learning rate falls."""


@dataclass(frozen=True)
class Place:
    """Where runs go, where pairs come from, and of how many of `val` (None: all) the evaluation is."""

    runs: Path
    data_root: str
    limit: int | None = None


@dataclass(frozen=True)
class Trial:
    """One curve: a variant trained for `steps` steps with a seed (once for each lambda or rate), and evaluated."""

    study: Study
    variant: Variant
    seed: int
    steps: int
    place: Place

    @property
    def name(self) -> str:
        """Of the run; steps are in it since the schedule of the learning rate depends on them."""
        return f"seed{self.seed}-steps{self.steps}"

    @property
    def folder(self) -> Path:
        """Of the variant's runs and evaluations."""
        return self.place.runs / self.study.name / self.variant.name

    @property
    def init(self) -> Path | None:
        """The checkpoint that its runs start from, as seen from here."""
        return Path(os.path.relpath(ROOT / self.study.init)) if self.study.init else None

    @property
    def runs(self) -> list[Path]:
        """The run folders."""
        return [self.folder / name for name in self._models]

    @property
    def evaluation(self) -> Path:
        """The folder of the evaluation."""
        limit = "" if self.place.limit is None else f"-first{self.place.limit}"
        return self.folder / f"{self.name}-val{limit}"

    @property
    def _models(self) -> dict[str, tuple[str, ...]]:
        """Run -> the fields that set it apart from the variant's others."""
        if self.variant.rates:
            return {
                f"{self.name}-rate{rate:.4g}": ("--loss.rates", f"{rate:.6g}", f"{rate:.6g}")
                for rate in self.variant.rates
            }
        if not self.variant.lambdas:
            return {self.name: ()}
        return {
            f"{self.name}-lambda{value:.6g}": ("--model.no-variable-rate", "--loss.lmbda", f"{value:.6g}")
            for value in self.variant.lambdas
        }

    def training(self) -> list[list[str]]:
        """The arguments of train.py for each run."""
        warmup, rate_warmup, decay = (str(round(share * self.steps)) for share in (WARMUP, RATE_WARMUP, DECAY))
        schedule = ["--train.steps", str(self.steps), "--train.warmup", warmup, "--train.decay", decay]
        init = ["--init", str(self.init)] if self.init else []
        schedule += ["--loss.rate-warmup", "0" if init else rate_warmup, "--train.seed", str(self.seed)]
        upkeep = ["--train.val-every", str(self.steps), "--train.save-every", str(max(1, self.steps // 4))]
        upkeep += ["--train.log-every", str(max(1, self.steps // 100)), "--train.keep", "1"]
        return [
            [
                *("--preset", self.study.preset, *init, "--runs", str(self.folder), "--name", name),
                *("--data.folder-root", self.place.data_root, *self.study.fields, *self.variant.fields, *fields),
                *schedule,
                *upkeep,
            ]
            for name, fields in self._models.items()
        ]

    def evaluating(self) -> list[str]:
        """The arguments of evaluate.py."""
        arguments = ["--ckpt", *map(str, self.runs), "--dataset", "folder", "--data-root", self.place.data_root]
        arguments += ["--split", "val", "--anchors", "none"]
        if not self.variant.lambdas and not self.variant.rates:
            arguments += ["--rates", *(f"{rate:.6g}" for rate in self.study.rates)]
        if not self.study.wrong_sides:
            arguments += ["--side", "correct"]
        if self.place.limit is not None:
            arguments += ["--limit", str(self.place.limit)]
        return [*arguments, "--out", str(self.evaluation)]


def trials(study: Study, names: list[str] | None, seeds: list[int], steps: dict[str, int], place: Place) -> list[Trial]:
    """All variants for the first seed, then for the next, so that an interrupted study has whole comparisons.

    `steps` of each variant; one that has none is left out. Raises ConfigError for unknown `names` (None: all), and if
    the baseline is not among them.
    """
    chosen = [variant.name for variant in study.variants] if names is None else names
    known = {variant.name: variant for variant in study.variants}
    for name in chosen:
        if name not in known:
            raise ConfigError(f"The study {study.name} has no variant {name!r}; choose from {', '.join(known)}.")
    if study.references[0] not in chosen:
        raise ConfigError(f"--variants leaves out {study.references[0]}, the baseline of {study.name}; add it.")
    return [
        Trial(study, variant, seed, steps[variant.name], place)
        for seed in dict.fromkeys(seeds)
        for variant in study.variants
        if variant.name in chosen and variant.name in steps
    ]


def program(name: str, arguments: list[str]) -> list[str]:
    """The words that start train.py or evaluate.py with this interpreter."""
    return [sys.executable, str(ROOT / name), *arguments]


def typed(name: str, arguments: list[str]) -> str:
    """The same command as one would type it here."""
    return shlex.join(["python", os.path.relpath(ROOT / name), *arguments])
