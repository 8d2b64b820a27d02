"""A whole benchmark: codecs, sizes and operations of one command line, measured one group after another."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from config import Config
from data.pair import Pair
from data.sources import open_source
from modules.codec import Codec, build_codec
from modules.diffusion_codec import DiffusionCodec
from modules.published.dicm import DICM
from modules.transforms import HYPER_STRIDE
from utils.benchmark import anchors, ours, paper, training
from utils.benchmark.cost import count_flops, peak_memory
from utils.benchmark.results import Row, further_goals, goals, judge
from utils.benchmark.subjects import EIGHT_BIT, Subject, parameters_of
from utils.benchmark.timing import OutOfTime, Turns, TurnTaking, limit
from utils.checkpoint import load_checkpoint
from utils.configio import preset_named
from utils.errors import ConfigError
from utils.run import environment
from utils.training.precision import bfloat16_instructions, compile_networks

SEED = 0
COMPILED = f"{ours.NAME}_compiled"


@dataclass(frozen=True)
class Settings:
    """What to measure. Sizes are (height, width); the published codec and training are measured at the first.

    `preset` gives the codec where there is no checkpoint, and in any case the objective that training steps have.
    `dataset` is a source that makes pairs of any size it has room for; `batch` counts pairs of a training step. With
    `compiled`, our codec is measured by torch.compile as well.
    """

    device: torch.device
    sizes: tuple[tuple[int, int], ...]
    turns: Turns
    training_turns: Turns
    steps: tuple[int, ...] = (1, 2, 4)
    checkpoint: str | None = None
    preset: str = "small"
    rate: float = 0.5
    dataset: str = "synthetic"
    quality: int = 30
    paper_steps: int = 5
    batch: int = 4
    skip: tuple[str, ...] = ()
    compiled: bool = False
    budget: float = math.inf
    """Seconds of the whole."""


@dataclass(frozen=True)
class Loaded:
    """A codec to measure, the configuration it was trained with, and where its weights are from."""

    codec: Codec
    config: Config
    weights: str


def load_ours(settings: Settings) -> Loaded:
    """Our codec from its checkpoint, or from its preset with fresh weights. Raises ConfigError, CheckpointError."""
    if settings.checkpoint is None:
        loaded = fresh(settings.preset, settings.device)
    else:
        found = load_checkpoint(settings.checkpoint, settings.device)
        loaded = Loaded(found.codec, found.config, f"{settings.checkpoint}, step {found.step}")
    if not isinstance(loaded.codec, DiffusionCodec):
        raise ConfigError(
            f"{settings.checkpoint or settings.preset} has model.codec {loaded.config.model.codec}; what is measured "
            "as ours must be a codec with model.codec diffusion."
        )
    return loaded


def fresh(preset: str, device: torch.device) -> Loaded:
    """The codec of a preset with fresh weights, frozen. Raises ConfigError for an unknown preset."""
    config = preset_named(preset)
    torch.manual_seed(SEED)
    codec = build_codec(config)
    codec.freeze()
    weights = (
        "fresh weights: the networks take as long as trained ones, the entropy coder does not, since the length of a "
        "file follows from training"
    )
    return Loaded(codec.to(device).eval(), config, weights)


def stage_1(preset: str, loaded: Loaded) -> Config:
    """The preset's training of a model like `loaded`: a checkpoint's own may be a stage that trains only a part."""
    return replace(preset_named(preset), model=loaded.config.model)


def our_subjects(settings: Settings, loaded: Loaded, pair: Pair) -> list[Subject]:
    """The operations of our codec on one pair, at the rate of the settings where it has a choice."""
    assert isinstance(loaded.codec, DiffusionCodec)
    rate = settings.rate if loaded.codec.variable_rate else None
    return ours.subjects(loaded.codec, pair, rate, settings.steps)


def compiled_subjects(settings: Settings, eager: Sequence[Subject], pair: Pair) -> list[Subject]:
    """Whole encoding and decoding of `eager` once more, by a codec whose networks are compiled; FLOPs are the same."""
    copy = load_ours(settings)
    compile_networks(copy.codec)
    counts = {(s.operation, s.steps, s.precision): partial(count_flops, s.run) for s in eager}
    return [
        replace(s, codec=COMPILED, flops=counts[s.operation, s.steps, s.precision])
        for s in our_subjects(settings, copy, pair)
        if s.operation in ("encode", "decode")
    ]


def measure(settings: Settings, say: Callable[[str], None]) -> tuple[list[Row], dict[str, Any]]:
    """All rows, and the whole result as plain JSON types; `say` is told what goes on. Raises ConfigError."""
    began = time.monotonic()
    check(settings)
    start = load_average()
    us = load_ours(settings)
    trained = None if "training" in settings.skip else stage_1(settings.preset, us)
    if trained is not None:
        training.check(trained, settings.preset)
    them = None if "paper" in settings.skip else fresh(paper.NAME, settings.device)
    rows: list[Row] = []
    notes: list[str] = []

    def of_size(number: int) -> list[Subject]:
        """Our operations at a size, at the first one the published codec's too, and the image formats'."""
        pair = pairs_of(settings, "test", settings.sizes[number], 1)[0]
        subjects = our_subjects(settings, us, pair)
        if settings.compiled:
            subjects += compiled_subjects(settings, subjects, pair)
        if them is not None and number == 0:
            assert isinstance(them.codec, DICM)
            subjects += paper.subjects(them.codec, pair, settings.paper_steps)
        if "anchors" not in settings.skip:
            found, missing = anchors.subjects(pair, settings.quality)
            subjects += found
            notes.extend(missing)
        return subjects

    groups = [(f"{h}x{w}", partial(of_size, i), settings.turns) for i, (h, w) in enumerate(settings.sizes)]
    if trained is not None:
        steps = partial(training_subjects, settings, trained, None if them is None else them.config)
        groups.append(("training", steps, settings.training_turns))
    for number, (name, build, turns) in enumerate(groups):
        # Each group has an equal share of what the ones before it have left of the budget.
        share = (settings.budget - (time.monotonic() - began)) / (len(groups) - number)
        group = Group(name, turns, settings.device, say)
        stopped = group.measure(build, share)
        rows += group.rows()
        notes += group.left_out()
        if stopped:
            later = ", ".join(name for name, *_ in groups[number + 1 :])
            notes.append("Stopped by Ctrl-C" + (f"; not begun: {later}." if later else "."))
            break
    expected = goals(them.codec.default_steps if them is not None else 0)
    judged = {goal.name: judge(rows, goal) for goal in [*expected, *further_goals()]}
    ratios = {goal.name: (judged[goal.name] or {}).get("value") for goal in expected}
    codecs = {ours.NAME: us, paper.NAME: them}
    return rows, {
        "machine": machine(settings.device) | {"load_average_before": start, "load_average_after": load_average()},
        "settings": {
            "sizes": [f"{height}x{width}" for height, width in settings.sizes],
            "dataset": settings.dataset,
            "rate": settings.rate,
            "turns": settings.turns.most,
            "training_turns": settings.training_turns.most,
            "paper_steps_timed": settings.paper_steps,
            "skipped": list(settings.skip),
        },
        "codecs": {
            name: {"weights": loaded.weights, "parameters": parameters_of(loaded.codec)}
            for name, loaded in codecs.items()
            if loaded is not None
        },
        "rows": [row.to_dict() for row in rows],
        "ratios": ratios,
        "verdicts": judged,
        "notes": list(dict.fromkeys(notes)),
    }


def check(settings: Settings) -> None:
    """Raises ConfigError for a first size that cannot be trained at, if training is measured."""
    height, width = settings.sizes[0]
    if "training" not in settings.skip and (height % HYPER_STRIDE or width % HYPER_STRIDE):
        raise ConfigError(
            f"The first of --sizes is {height}x{width}; training needs multiples of {HYPER_STRIDE}: begin with another "
            "size, or skip training."
        )


def training_subjects(settings: Settings, own: Config, theirs: Config | None) -> list[Subject]:
    """Training steps of both codecs, on equal batches, at the first size."""
    height, width = settings.sizes[0]
    pairs = pairs_of(settings, "train", (height, width), settings.batch)
    subjects: list[Subject] = []
    for name, config in ((ours.NAME, own), (paper.NAME, theirs)):
        if config is not None:
            without = replace(config, loss=replace(config.loss, perceptual="none"))
            note = (
                f"forward, backward, clipping and Adam on {settings.batch} pairs, no perceptual loss; GFLOP of one "
                "step (ours draws at random how many samples are denoised twice)"
            )
            subjects += training.subjects(name, without, pairs, settings.device, note)
    return subjects


class Group:
    """Subjects that take turns within a share of the budget; each row is told as soon as it has its first figure."""

    def __init__(self, name: str, turns: Turns, device: torch.device, say: Callable[[str], None]) -> None:
        self._name, self._turns, self._device, self._say = name, turns, device, say
        self._subjects: list[Subject] = []
        self._costs: dict[int, tuple[int | None, int | None]] = {}
        self._taking = TurnTaking([], turns, device)

    def measure(self, build: Callable[[], list[Subject]], seconds: float) -> bool:
        """Make the subjects and measure them, for at most so many seconds. Whether Ctrl-C ended it."""
        try:
            with limit(seconds):
                emulated = not bfloat16_instructions()  # What is slow for that reason comes last.
                self._subjects = sorted(build(), key=lambda s: emulated and s.precision == "bfloat16")
                total = len(self._subjects) * self._turns.most
                with tqdm(total=total, desc=self._name, unit="turn", disable=None) as bar:

                    def tell(number: int, turn: float) -> None:
                        if bar.n < len(self._subjects):
                            self._say(f"{self._subjects[number].key}: {1000 * turn:.4g} ms")
                        bar.update()

                    self._taking = TurnTaking(self._subjects, self._turns, self._device, self._prepare, tell)
                    self._taking.run()
        except OutOfTime:
            pass
        except KeyboardInterrupt:
            return True
        return False

    def _prepare(self, number: int) -> None:
        """Count FLOPs and memory, each by a call, which warms the subject up."""
        subject = self._subjects[number]
        flops: int | None = None
        if subject.precision != EIGHT_BIT:
            flops = count_flops(subject.run) if subject.flops is None else subject.flops()
        self._costs[number] = (flops, peak_memory(subject.run, self._device))
        if subject.missing is not None:
            subject.missing()

    def rows(self) -> list[Row]:
        """Of the subjects that had a turn."""
        measured = zip(self._subjects, self._taking.times(), strict=False)
        return [Row(s, times, *self._costs[i]) for i, (s, times) in enumerate(measured) if times is not None]

    def left_out(self) -> list[str]:
        """A sentence that names what did not fit into the budget, and one for turns that did not."""
        times = dict(enumerate(self._taking.times()))
        missing = [s.key for i, s in enumerate(self._subjects) if times.get(i) is None]
        turns = {len(t.seconds) for t in times.values() if t is not None}
        if not self._subjects:
            return [f"Left out, for --budget was over: {self._name}."]
        if missing:
            return [f"Left out, for --budget was over: {', '.join(missing)}."]
        if turns and max(turns) < self._turns.most:
            return [f"{self._name}: {max(turns)} of {self._turns.most} turns fit into --budget."]
        return []


def pairs_of(settings: Settings, split: str, size: tuple[int, int], count: int) -> list[Pair]:
    """The first pairs of a source that makes them at this size. Raises ConfigError for a size it has no room for."""
    source = open_source(settings.dataset, split=split, height=size[0], width=size[1])
    return [source[i % len(source)] for i in range(count)]


def load_average() -> float | None:
    """Processes that wanted to run during the last minute, on average; None where the system does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def machine(device: torch.device) -> dict[str, Any]:
    """What times depend on besides the code."""
    tf32 = {"matmul": torch.backends.cuda.matmul.allow_tf32, "convolutions": torch.backends.cudnn.allow_tf32}
    return environment() | {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_instructions": bfloat16_instructions(),
        "tf32": tf32 if device.type == "cuda" else None,
    }


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads for the duration; None: as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
