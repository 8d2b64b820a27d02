"""What to measure: the checkpoints, and for each the points (rate, side variant) of its curve."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from config import Config, LossConfig
from utils.configio import to_dict
from utils.errors import ConfigError
from utils.evaluation.side import CORRECT, NONE, SHUFFLED, can_shuffle
from utils.run import FREE_TO_CHANGE

POINTS = 5
"""Rates of a variable-rate curve, evenly over those that were trained."""


@dataclass(frozen=True)
class Model:
    """What a plan needs to know of a checkpoint. The weights are loaded again when they are used.

    `label` is the method's name in the report, shared by the points of one curve.
    """

    given: str
    file: Path
    digest: str
    config: Config
    step: int
    name: str
    lmbda: float | None
    variable_rate: bool
    needs_side: bool
    accepts_no_side: bool
    default_steps: int
    default_gamma: float
    label: str = ""

    @property
    def trained_on(self) -> str:
        """The network of the perceptual training loss (a key of `modules.pretrained.weights.WEIGHTS`), or ""."""
        from modules.perceptual import NETWORKS

        loss = self.config.loss
        return NETWORKS[loss.perceptual] if loss.has_perceptual else ""

    @property
    def rates(self) -> tuple[float | None, ...]:
        """Those that it is evaluated at; None stands for the only one of a fixed-rate model."""
        loss = self.config.loss
        if not self.variable_rate or not isinstance(loss, LossConfig):
            return (None,)
        low, high = loss.rates
        return tuple(dict.fromkeys(low + (high - low) * i / (POINTS - 1) for i in range(POINTS)))

    @property
    def place(self) -> tuple[float, ...]:
        """Where on a curve that several checkpoints share it is: bits of an index, lambda, or the rates trained."""
        loss = self.config.loss
        if self.lmbda is None and isinstance(loss, LossConfig):
            return loss.rates
        return (getattr(self.config.model, "bits", 0), self.lmbda or 0.0)


@dataclass(frozen=True)
class Point:
    """One point of a rate-distortion curve. For an anchor, `rate` is its quality setting / 100 and the rest is None."""

    codec: str
    rate: float | None
    checkpoint: str | None = None
    lmbda: float | None = None
    steps: int | None = None
    gamma: float | None = None
    side: str | None = None
    model: int | None = None
    """Place of the checkpoint in the list of models; None for an anchor."""

    @property
    def quality(self) -> int:
        """The quality setting of an anchor."""
        assert self.rate is not None
        return round(100 * self.rate)

    @property
    def stream(self) -> str:
        """Name of the folder of this point's bitstreams. Points that differ only at the decoder share it."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", self.codec).strip("_")
        if self.model is None:
            return f"{name}_q{self.quality:03d}"
        return f"{name}_lambda{self.lmbda:g}" if self.rate is None else f"{name}_rate{self.rate:.4g}"

    @property
    def key(self) -> str:
        """Name of the folder of this point's reconstructions; unique in a plan."""
        if self.model is None:
            return self.stream
        return f"{self.stream}_steps{self.steps}_gamma{self.gamma:g}_{str(self.side).replace(':', '')}"


@dataclass(frozen=True)
class Request:
    """What the command line asks for; None: not given."""

    rates: tuple[float, ...] | None = None
    steps: int | None = None
    gamma: float | None = None
    side: str | None = None


def describe_models(paths: Sequence[str]) -> list[Model]:
    """The checkpoints that `--ckpt` names. Raises CheckpointError, and ConfigError for one that is named twice."""
    from utils.checkpoint import load_checkpoint

    models: list[Model] = []
    for path in paths:
        loaded = load_checkpoint(path)
        codec = loaded.codec
        digest = hashlib.sha256(loaded.path.read_bytes()).hexdigest()
        for other in models:
            if other.digest == digest:
                raise ConfigError(
                    f"--ckpt names one checkpoint twice: {other.given} and {path} have equal content; remove one."
                )
        models.append(
            Model(
                given=path,
                file=loaded.path,
                digest=digest,
                config=loaded.config,
                step=loaded.step,
                name=codec.name,
                lmbda=codec.lmbda,
                variable_rate=codec.variable_rate,
                needs_side=codec.needs_side,
                accepts_no_side=codec.accepts_no_side,
                default_steps=codec.default_steps,
                default_gamma=codec.default_gamma,
            )
        )
    return label_models(models)


def label_models(models: Sequence[Model]) -> list[Model]:
    """Gives each model its label: one for each curve.

    Fixed-rate checkpoints that differ only in lambda share a curve, and variable-rate ones that differ only in the one
    rate that each was trained for. Where two curves have the same method, the run's name, then the step, then a number
    tells them apart.
    """
    curves: dict[Any, list[Model]] = {}
    for model in models:
        signature: Any = _signature(model)
        while any(member.place == model.place for member in curves.get(signature, [])):
            signature = (signature, model.step, model.digest)
        curves.setdefault(signature, []).append(model)
    heads = [members[0] for members in curves.values()]
    spellings = (
        [m.name for m in heads],
        [f"{m.name} ({m.config.name})" for m in heads],
        [f"{m.name} ({m.config.name}@{m.step})" for m in heads],
        [f"{m.name} ({m.config.name}@{m.step} #{i + 1})" for i, m in enumerate(heads)],
    )
    labels = []
    for i in range(len(heads)):
        labels.append(next(names[i] for names in spellings if names.count(names[i]) == 1))
    label_of = {m.digest: label for label, members in zip(labels, curves.values(), strict=True) for m in members}
    return [replace(model, label=label_of[model.digest]) for model in models]


def plan_points(models: Sequence[Model], request: Request, groups: Sequence[str]) -> tuple[list[Point], list[str]]:
    """The points to measure, curve by curve, and notes on points that cannot be had.

    Without a side variant in the request: the correct side image at every rate, and at the middle rate of each curve
    also none and shuffled. Raises ConfigError for a request that a model cannot meet.
    """
    _check(models, request, groups)
    notes: list[str] = []
    points: list[Point] = []
    for label in dict.fromkeys(model.label for model in models):
        curve = sorted((m for m in models if m.label == label), key=lambda m: m.place)
        main = [point for model in curve for point in _curve_points(models, model, request)]
        points += main
        middle = main[(len(main) - 1) // 2]
        if request.side is None and curve[0].needs_side:
            extras, reasons = _side_variants(curve[0], groups)
            points += [replace(middle, side=side) for side in extras]
            notes += reasons
    return points, list(dict.fromkeys(notes))


def _curve_points(models: Sequence[Model], model: Model, request: Request) -> list[Point]:
    rates = (request.rates or model.rates) if model.variable_rate else model.rates
    side = (request.side or CORRECT) if model.needs_side else NONE
    return [
        Point(
            codec=model.label,
            rate=rate,
            checkpoint=model.given,
            lmbda=model.lmbda,
            steps=model.default_steps if request.steps is None else request.steps,
            gamma=model.default_gamma if request.gamma is None else request.gamma,
            side=side,
            model=models.index(model),
        )
        for rate in rates
    ]


def _side_variants(model: Model, groups: Sequence[str]) -> tuple[list[str], list[str]]:
    variants, notes = [], []
    if model.accepts_no_side:
        variants.append(NONE)
    else:
        notes.append(f"{model.label} has no point without a side image: it was trained without side dropout.")
    reason = can_shuffle(groups)
    if reason is None:
        variants.append(SHUFFLED)
    else:
        notes.append(f"{model.label} has no point with shuffled side images: {reason}")
    return variants, notes


def _check(models: Sequence[Model], request: Request, groups: Sequence[str]) -> None:
    if request.steps is not None and request.steps < 1:
        raise ConfigError(f"--steps is {request.steps}; decoding takes at least one.")
    if request.gamma is not None and not 0 <= request.gamma <= 1:
        raise ConfigError(f"--gamma is {request.gamma:g}; it lies in 0 (mean-like) to 1 (realistic).")
    for model in models:
        if request.rates is not None and not model.variable_rate:
            raise ConfigError(
                f"--rates does not apply to {model.given}: it is a fixed-rate model (lambda {model.lmbda:g}) and "
                "gives one point; leave --rates out, or evaluate variable-rate checkpoints separately."
            )
        if request.rates is not None and any(m.label == model.label for m in models if m is not model):
            raise ConfigError(
                f"--rates does not apply to {model.given}: it shares a curve with other checkpoints, each of which was "
                "trained for one rate; leave --rates out, or evaluate them one by one."
            )
        if request.side == NONE and model.needs_side and not model.accepts_no_side:
            raise ConfigError(
                f"--side none does not apply to {model.given}: it was trained without side dropout, so it has no null "
                "input; train with model.side_dropout above 0, or retrain without side information (model.fusion none)."
            )
        if request.side not in (None, CORRECT, NONE) and not model.needs_side:
            raise ConfigError(
                f"--side {request.side} does not apply to {model.given}: it uses no side image; leave --side out."
            )
    check_rates(request.rates or ())
    if request.side == SHUFFLED:
        reason = can_shuffle(groups)
        if reason is not None:
            raise ConfigError(reason)


def check_rates(rates: Sequence[float]) -> None:
    """Raises ConfigError for a rate outside 0 to 1."""
    for rate in rates:
        if not 0 <= rate <= 1:
            raise ConfigError(f"--rates has {rate:g}; a rate lies in 0 (smallest file) to 1 (largest).")


def _signature(model: Model) -> str:
    """The configuration without what does not change the method: lambda or another choice of the rate, names, paths."""
    values = to_dict(model.config)
    values["name"] = values["loss"]["lmbda"] = None
    values["model"].pop("bits", None)
    loss = model.config.loss
    if isinstance(loss, LossConfig) and loss.rates[0] == loss.rates[1]:
        values["loss"]["rates"] = None
    for path in FREE_TO_CHANGE:
        section, field = path.split(".")
        if path not in ("train.steps", "train.decay"):
            values[section][field] = None
    return repr(values)
