"""Train a codec: `accelerate launch train.py --preset NAME --field.path VALUE ...`. The same command again resumes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import gather_object
from torch import Tensor, nn
from tqdm import tqdm

from config import Config, TrainConfig
from data.mixture import Mixture, make_loader
from data.sources import open_source, verify
from data.transforms import Augment
from modules.codec import Codec, build_codec
from modules.losses import objective
from modules.noise import Draws
from modules.perceptual import build_perceptual
from utils.checkpoint import MODEL_FILE, initialise, save_checkpoint
from utils.cli import run
from utils.configio import parse_command_line
from utils.errors import ConfigError, ProjectError
from utils.run import RunFolder
from utils.training_state import load_training_state, prune, save_training_state, step_folders
from utils.validation import validate

SCALES = 3
"""Entries of the tuples in ModelConfig."""


def learning_rate(step: int, train: TrainConfig) -> float:
    """Factor of the learning rate at optimizer step 0, 1, ...: linear warm-up, constant, linear decay to the floor."""
    warm = min(1.0, (step + 1) / max(1, train.warmup))
    left = min(1.0, (train.steps - step) / max(1, train.decay))
    return warm * (train.lr_floor + (1 - train.lr_floor) * left)


def micro_batch(train: TrainConfig, processes: int) -> int:
    """Pairs a process sees in one forward pass; raises ConfigError if the batch cannot be shared out evenly."""
    share, rest = divmod(train.batch_size, processes * train.accumulation)
    if rest or not share:
        raise ConfigError(
            f"train.batch_size {train.batch_size} cannot be shared out evenly over {processes} processes x "
            f"{train.accumulation} accumulation passes; choose a multiple of {processes * train.accumulation}."
        )
    return share


def check(config: Config, device: torch.device) -> None:
    """Settings that would fail later or be ignored in silence raise ConfigError now."""
    if config.train.precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision fp16 does nothing on a CPU; use bf16 or no.")
    crop = config.data.augment
    if crop.height % 64 or crop.width % 64:
        raise ConfigError(
            f"The training crop is {crop.width}x{crop.height}; data.augment.height and width must be multiples of 64."
        )
    for name in ("steps", "batch_size", "accumulation", "log_every", "val_every", "save_every", "keep"):
        if getattr(config.train, name) < 1:
            raise ConfigError(f"train.{name} is {getattr(config.train, name)}; it must be at least 1.")
    if not 0 <= config.train.ema < 1:
        raise ConfigError(f"train.ema is {config.train.ema}; it must lie in [0, 1).")
    if not 0 <= config.model.side_dropout < 1:
        raise ConfigError(f"model.side_dropout is {config.model.side_dropout}; it must lie in [0, 1).")
    for name, value in dataclasses.asdict(config.model).items():
        if isinstance(value, tuple) and len(value) != SCALES:
            raise ConfigError(
                f"model.{name} has {len(value)} entries; it needs {SCALES}, from 1/4 to 1/16 of the image."
            )


def training_data(config: Config) -> Mixture:
    """The mixture of training sources, each checked for damage before the first step."""
    data = config.data
    size = {"height": data.augment.height, "width": data.augment.width}
    sources = []
    for name, weight in data.weights().items():
        source = open_source(
            name,
            split="train",
            root=data.root(name),
            size="train",
            protocol=data.protocol,
            seed=config.train.seed,
            **size,
        )
        verify(source)
        sources.append((source, weight))
    return Mixture(sources, Augment(data.augment), seed=config.train.seed)


def sample_indices(train: TrainConfig, start: int, rank: int, processes: int, micro: int) -> Iterator[int]:
    """The samples of the run that this process sees, from optimizer step `start` on.

    Step s sees samples s x batch_size up to (s + 1) x batch_size, whatever the number of processes.
    """
    for step in range(start, train.steps):
        for chunk in range(train.accumulation):
            first = step * train.batch_size + (chunk * processes + rank) * micro
            yield from range(first, first + micro)


def build_optimizer(codec: Codec, train: TrainConfig) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """Adam with groups of their own for gain units and quantiles; all but the quantiles are returned, for clipping."""
    groups: dict[str, dict[str, Any]] = {
        "": {"params": [], "base_lr": train.lr},
        "log_gain": {"params": [], "base_lr": train.gain_lr},
        "quantiles": {"params": [], "base_lr": train.quantile_lr},
    }
    for name, parameter in codec.named_parameters():
        kind = name.rsplit(".", 1)[-1]
        groups[kind if kind in groups else ""]["params"].append(parameter)
    clipped = groups[""]["params"] + groups["log_gain"]["params"]
    return torch.optim.Adam([group for group in groups.values() if group["params"]], lr=train.lr), clipped


@torch.no_grad()
def update_ema(ema: Codec, codec: Codec, step: int, decay: float) -> None:
    """Move the averaged weights; early on the average is short, so that it does not remember the start."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(ema.parameters()), [p.detach() for p in codec.parameters()], 1 - decay)


def build_accelerator(train: TrainConfig, cpu: bool) -> Accelerator:
    """Accelerate for one process or many. Raises ConfigError for a precision that the device lacks."""
    parallel = DistributedDataParallelKwargs(
        find_unused_parameters=True,  # Which parts of a codec a loss uses is the codec's affair.
        broadcast_buffers=False,  # Training changes none.
    )
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=4))  # The others wait while one process validates.
    try:
        return Accelerator(
            cpu=cpu,
            mixed_precision=train.precision,
            dynamo_backend="inductor" if train.compile else "no",
            kwargs_handlers=[parallel, patience],
        )
    except ValueError as error:
        raise ConfigError(
            f"train.precision {train.precision} cannot be used on this device ({error}); use bf16 or no."
        ) from error


class Trainer:
    """What the loop needs, made once: accelerator, run folder, codec, its moving average, optimizer, data."""

    def __init__(self, config: Config, runs: Path, init: str, cpu: bool, weights_dir: str | None = None) -> None:
        self.config, train = config, config.train
        self.accelerator = build_accelerator(train, cpu or not torch.cuda.is_available())
        device = self.accelerator.device
        check(config, device)
        self.main = self.accelerator.is_main_process
        self.micro = micro_batch(train, self.accelerator.num_processes)
        self.mixture = training_data(config)
        self.validation = open_source(
            config.data.dataset,
            split="val",
            root=config.data.root(config.data.dataset),
            protocol=config.data.protocol,
            limit=config.data.val_limit or None,
            height=config.data.augment.height,
            width=config.data.augment.width,
        )
        self.perceptual = (
            build_perceptual(config.loss.perceptual, weights_dir) if config.loss.perceptual_weight > 0 else None
        )
        if self.perceptual is not None:
            self.perceptual.to(device)
        self.run = RunFolder(runs, config, writes=self.main)
        torch.manual_seed(train.seed)
        codec = build_codec(config)
        if init:
            initialise(codec, init)
        codec = codec.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.codec = codec
        self.ema: Codec = copy.deepcopy(codec).requires_grad_(False)
        optimizer, self.clipped = build_optimizer(codec, train)
        self.model, self.optimizer = self.accelerator.prepare(codec, optimizer)
        self.step = 0
        self.best = float("inf")
        self._resume()

    def _resume(self) -> None:
        folders = step_folders(self.run.checkpoints)
        if folders:
            self.step, extra = load_training_state(folders[-1], self.codec, self.ema, self.optimizer.optimizer)
            self.best = extra["best"]
            if self.accelerator.scaler is not None and extra["scaler"]:
                self.accelerator.scaler.load_state_dict(extra["scaler"])
            self.run.log(f"resumed after step {self.step} from {folders[-1]}")
        self.run.rewind(self.step)

    def save(self) -> None:
        """Write checkpoints/step_NNNNNNNN: it appears complete or not at all."""
        self.accelerator.wait_for_everyone()
        if not self.main:
            return
        folder = self.run.checkpoints / f"step_{self.step:08d}"
        temporary = folder.with_suffix(".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self.ema.freeze()
        save_checkpoint(temporary / MODEL_FILE, self.ema, self.config, self.step)
        scaler = self.accelerator.scaler
        extra = {"best": self.best, "scaler": scaler.state_dict() if scaler is not None else {}}
        save_training_state(temporary, self.step, self.codec, self.ema, self.optimizer.optimizer, extra)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
        prune(self.run.checkpoints, self.config.train.keep)

    def validate(self, writer: Any) -> None:
        """True file sizes and quality of the averaged weights on `val`; the best by validation loss is kept."""
        if self.main:
            self.ema.freeze()
            values = validate(self.ema, self.validation, self.config, self.run.samples / f"step_{self.step:08d}.png")
            self.run.metrics(self.step, values)
            for name, value in values.items():
                writer.add_scalar(name, value, self.step)
            self.run.log(f"step {self.step} validation: " + ", ".join(f"{k[4:]} {v:.4g}" for k, v in values.items()))
            if values["val/loss"] < self.best:
                self.best = values["val/loss"]
                save_checkpoint(self.run.checkpoints / "best" / MODEL_FILE, self.ema, self.config, self.step)
        self.accelerator.wait_for_everyone()

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one micro-batch, and its parts."""
        device = self.accelerator.device
        x, x_side = (batch[name].to(device, non_blocking=True).float() / 255 for name in ("x", "x_side"))
        draws = Draws([Draws.key(self.config.train.seed, int(i)) for i in batch["index"]], device)
        with self.accelerator.autocast():
            output = self.model(x, x_side, draws)
        loss, parts = objective(output, self.config.loss, self.codec.variable_rate, self.perceptual, self.step)
        return (loss if output.aux is None else loss + output.aux), parts

    def optimise(self, batches: Iterator[dict[str, Any]]) -> dict[str, Tensor]:
        """One optimizer step over `accumulation` micro-batches; stops with a sentence if the loss is not finite."""
        train, accelerator = self.config.train, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * learning_rate(self.step, train)
        self.optimizer.zero_grad(set_to_none=True)
        total: dict[str, list[Tensor]] = {}
        for chunk in range(train.accumulation):
            batch = next(batches)
            last = chunk == train.accumulation - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                with accelerator.autocast():  # Not around backward: it would round the float32 parts' gradients.
                    loss, parts = self.forward(batch)
                finite = torch.isfinite(loss.detach()).float()
                if accelerator.reduce(finite, "sum") < accelerator.num_processes:
                    raise self._diverged(
                        "" if finite else f", {float(loss.detach())}, for the pairs {', '.join(batch['id'])}"
                    )
                accelerator.backward(loss / train.accumulation)
            for name, part in parts.items():  # A part may be absent: a task that no sample of this chunk drew.
                total.setdefault(name, []).append(part.detach())
        accelerator.unscale_gradients(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.clipped, train.clip)
        if accelerator.scaler is None and not torch.isfinite(norm):  # A loss scaler skips such a step by itself.
            raise self._diverged(" in its gradient")
        self.optimizer.step()
        self.step += 1
        update_ema(self.ema, self.codec, self.step, train.ema)
        return {name: torch.stack(values).mean() for name, values in total.items()} | {"gradient_norm": norm}

    def _diverged(self, where: str) -> ProjectError:
        return ProjectError(
            f"The loss of step {self.step} is not finite{where}; the last checkpoint is intact: lower train.lr, or "
            "look at the pairs, and start again."
        )

    def averages(self, parts: dict[str, Tensor]) -> dict[str, float]:
        """The mean of each part over the processes that have it."""
        of_each = gather_object([{name: float(value) for name, value in parts.items()}])
        names = dict.fromkeys(name for values in of_each for name in values)
        having = {name: [values[name] for values in of_each if name in values] for name in names}
        return {f"train/{name}": math.fsum(values) / len(values) for name, values in having.items()}

    def train(self) -> None:
        """The loop."""
        from torch.utils.tensorboard import SummaryWriter

        train = self.config.train
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        indices = sample_indices(train, self.step, rank, processes, self.micro)
        batches = iter(make_loader(self.mixture, indices, self.micro, self.config.data.workers))
        writer = (
            SummaryWriter(str(self.run.path), purge_step=self.step + 1 if self.step else None) if self.main else None
        )
        self.model.train()
        with tqdm(total=train.steps, initial=self.step, disable=not self.main, unit="step", smoothing=0.05) as bar:
            while self.step < train.steps:
                parts = self.optimise(batches)
                bar.update()
                if self.step % train.log_every == 0 or self.step == train.steps:
                    values = self.averages(parts)
                    bar.set_postfix(loss=f"{values['train/loss']:.3f}", bpp=f"{values['train/bpp']:.3f}")
                    self.run.metrics(self.step, values)
                    if writer is not None:
                        for name, value in values.items():
                            writer.add_scalar(name, value, self.step)
                if self.step % train.val_every == 0 or self.step == train.steps:
                    self.validate(writer)
                if self.step % train.save_every == 0 or self.step == train.steps:
                    self.save()
        if writer is not None:
            writer.close()
        self.run.log(f"done: {self.run.path} after {self.step} steps")
        self.accelerator.end_training()


def describe(config: Config) -> str:
    """The whole configuration, and the parameters of each part."""
    import yaml

    codec = build_codec(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in codec.named_children()}
    lines = [yaml.safe_dump(dataclasses.asdict(config), sort_keys=False).rstrip(), "parameters:"]
    lines += [f"  {name}: {n / 1e6:.3f} M" for name, n in count.items()]
    return "\n".join([*lines, f"  total: {sum(count.values()) / 1e6:.3f} M"])


def main() -> None:
    """Parse, then print or train."""
    config, switches = parse_command_line()
    if switches.dry_run:
        print(describe(config))
        return
    Trainer(config, Path(switches.runs), switches.init, switches.cpu, switches.weights_dir).train()


if __name__ == "__main__":
    run(main)
