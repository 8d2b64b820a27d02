"""What to measure: the checkpoints, and for each the points (rate, side variant) of its curve."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from config import Config, NdscModelConfig
from modules.codec import LEVELS, Codec
from modules.perceptual import NETWORKS
from utils.checkpoint import Checkpoint, load_checkpoint
from utils.errors import UNTRAINED_DENOISER, ConfigError
from utils.evaluation.side import CORRECT, NONE, SHUFFLED, can_shuffle, parse_sides, shuffle
from utils.files import sha256
from utils.run import FREE_TO_CHANGE

POINTS = 5
"""Rates of a variable-rate curve, evenly over those that were trained."""


@dataclass(frozen=True)
class Model:
    """A checkpoint, loaded once. `label` is the method's name in the report, shared by the points of one curve."""

    given: str
    digest: str
    loaded: Checkpoint
    label: str = ""

    @property
    def codec(self) -> Codec:
        """The codec, on the CPU until its points are coded."""
        return self.loaded.codec

    @property
    def config(self) -> Config:
        """The configuration that it was trained with."""
        return self.loaded.config

    @property
    def trained_on(self) -> str:
        """The network of the perceptual training loss (a key of `modules.pretrained.weights.WEIGHTS`), or ""."""
        loss = self.config.loss
        return NETWORKS[loss.perceptual] if loss.has_perceptual else ""

    @property
    def rates(self) -> tuple[float | None, ...]:
        """Those that it is evaluated at; None stands for the only one of a fixed-rate model."""
        if not self.codec.variable_rate:
            return (None,)
        low, high = self.config.loss.rates
        return tuple(dict.fromkeys(low + (high - low) * i / (POINTS - 1) for i in range(POINTS)))

    @property
    def place(self) -> tuple[float, ...]:
        """Where on a curve that several checkpoints share it is: bits of indices, lambda, or the rates trained."""
        model, lmbda = self.config.model, self.codec.lmbda
        if lmbda is None:
            return self.config.loss.rates
        return (model.bpp if isinstance(model, NdscModelConfig) else 0.0, lmbda)


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
    def columns(self) -> dict[str, Any]:
        """What sets it apart, as summary.json and images.csv name it."""
        names = ("codec", "checkpoint", "lambda", "rate", "steps", "gamma", "side")
        values = (self.codec, self.checkpoint, self.lmbda, self.rate, self.steps, self.gamma, self.side)
        return dict(zip(names, values, strict=True))

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
    """What the command line asks for; None: not given. Each of `steps`, `gamma` and `side` makes its own curve."""

    rates: Sequence[float] | None = None
    steps: Sequence[int] | None = None
    gamma: Sequence[float] | None = None
    side: Sequence[str] | None = None

    def checked(self) -> Request:
        """In order and each once. Raises ConfigError for what is out of range."""
        for rate in self.rates or ():
            if not 0 <= rate <= 1:
                raise ConfigError(f"--rates has {rate:g}; a rate lies in 0 (smallest file) to 1 (largest).")
        for steps in self.steps or ():
            if steps < 1:
                raise ConfigError(f"--steps is {steps}; decoding takes at least one.")
        for gamma in self.gamma or ():
            if not 0 <= gamma <= 1:
                raise ConfigError(f"--gamma is {gamma:g}; it lies in 0 (mean-like) to 1 (realistic).")
        levels = {round(rate * (LEVELS - 1)): rate for rate in self.rates or ()}  # Equal levels are one point.
        rates, steps_, gammas = sorted(levels.values()), sorted({*(self.steps or ())}), sorted({*(self.gamma or ())})
        return Request(rates or None, steps_ or None, gammas or None, parse_sides(self.side or ()) or None)


def describe_models(paths: Sequence[str]) -> list[Model]:
    """The checkpoints that `--ckpt` names. Raises CheckpointError, and ConfigError for one that is named twice."""
    models: dict[str, Model] = {}
    for path in paths:
        loaded = load_checkpoint(path)
        model = Model(path, sha256(loaded.path), loaded)
        other = models.setdefault(model.digest, model)
        if other is not model:
            raise ConfigError(
                f"--ckpt names one checkpoint twice: {other.given} and {path} have equal content; remove one."
            )
    return label_models(list(models.values()))


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
            signature = (signature, model.digest)
        curves.setdefault(signature, []).append(model)
    heads = [members[0] for members in curves.values()]
    spellings = (
        [m.codec.name for m in heads],
        [f"{m.codec.name} ({m.config.name})" for m in heads],
        [f"{m.codec.name} ({m.config.name}@{m.loaded.step})" for m in heads],
        [f"{m.codec.name} ({m.config.name}@{m.loaded.step} #{i + 1})" for i, m in enumerate(heads)],
    )
    labels = [next(names[i] for names in spellings if names.count(names[i]) == 1) for i in range(len(heads))]
    label_of = {m.digest: label for label, members in zip(labels, curves.values(), strict=True) for m in members}
    return [replace(model, label=label_of[model.digest]) for model in models]


def plan_points(models: Sequence[Model], request: Request, groups: Sequence[str]) -> tuple[list[Point], list[str]]:
    """The points to measure, curve by curve, and notes on points that cannot be had.

    The side images of the request are taken at every rate. Without any: the correct one at every rate, and at the
    middle rate of each curve also none and shuffled. Raises ConfigError for a request that a model cannot meet.
    """
    request = request.checked()
    _check(models, request, groups)
    notes: list[str] = []
    points: list[Point] = []
    for label in dict.fromkeys(model.label for model in models):
        members = sorted((m for m in models if m.label == label), key=lambda m: m.place)
        # A curve for each decoding: its points by rate, and at the middle rate the other side images.
        for of_members in zip(*(_points_by_decoding(models, m, request) for m in members), strict=True):
            curve = [point for points_of_one in of_members for point in points_of_one]
            points += curve
            if request.side is None and members[0].codec.needs_side:
                no_null_input = "it was trained without side dropout, so it has no null input."
                without = None if members[0].codec.accepts_no_side else no_null_input
                for side, why_not in {NONE: without, SHUFFLED: can_shuffle(groups)}.items():
                    points += [] if why_not else [replace(curve[(len(curve) - 1) // 2], side=side)]
                    notes += [f"{label} has no point with the side image {side}: {why_not}"] if why_not else []
    return points, list(dict.fromkeys(notes))


def _points_by_decoding(models: Sequence[Model], model: Model, request: Request) -> list[list[Point]]:
    """The points of one checkpoint, by rate, for each choice of steps, gamma and side image."""
    codec = model.codec
    rates = (request.rates or model.rates) if codec.variable_rate else model.rates
    sides = (request.side or [CORRECT]) if codec.needs_side else [NONE]
    return [
        [Point(model.label, r, model.given, codec.lmbda, steps, gamma, side, models.index(model)) for r in rates]
        for steps in request.steps or [codec.default_steps]
        for gamma in request.gamma or [codec.default_gamma]
        for side in sides
    ]


def _check(models: Sequence[Model], request: Request, groups: Sequence[str]) -> None:
    sides = request.side or ()
    for model in models:
        if request.rates is not None and not model.codec.variable_rate:
            raise ConfigError(
                f"--rates does not apply to {model.given}: it is a fixed-rate model (lambda {model.codec.lmbda:g}) and "
                "gives one point; leave --rates out, or evaluate variable-rate checkpoints separately."
            )
        if request.rates is not None and any(m.label == model.label for m in models if m is not model):
            raise ConfigError(
                f"--rates does not apply to {model.given}: it shares a curve with other checkpoints, each of which was "
                "trained for one rate; leave --rates out, or evaluate them one by one."
            )
        if NONE in sides and model.codec.needs_side and not model.codec.accepts_no_side:
            raise ConfigError(
                f"--side none does not apply to {model.given}: it was trained without side dropout, so it has no null "
                "input; train with model.side_dropout above 0, or retrain without side information (model.fusion none)."
            )
        if not model.codec.denoises and any(request.gamma or ()):
            raise ConfigError(f"--gamma does not apply to {model.given}; {UNTRAINED_DENOISER}")
        if not {*sides} <= {CORRECT, NONE} and not model.codec.needs_side:
            raise ConfigError(
                f"--side {' '.join(sides)} does not apply to {model.given}: it uses no side image; leave --side out."
            )
    if SHUFFLED in sides:
        shuffle(groups)


def _signature(model: Model) -> str:
    """The configuration without what does not change the method: lambda or another choice of the rate, names, paths."""
    values = asdict(model.config)
    values["name"] = values["loss"]["lmbda"] = None
    for name in ("bits", "halvings"):
        values["model"].pop(name, None)
    loss = model.config.loss
    if loss.rates[0] == loss.rates[1]:
        values["loss"]["rates"] = None
    for path in FREE_TO_CHANGE:
        section, field = path.split(".")
        if path not in ("train.steps", "train.decay"):
            values[section][field] = None
    return repr(values)
