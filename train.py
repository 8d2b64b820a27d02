"""Train a codec: `accelerate launch train.py --preset NAME --field.path VALUE ...`. The same command again resumes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from tqdm import tqdm

from config import DEFAULT, Config, TrainConfig
from data.mixture import make_loader
from modules.codec import Codec, build_codec
from modules.critic import AdversarialLoss, build_judge
from modules.losses import objective
from modules.noise import Draws
from utils.checkpoint import MODEL_FILE, find_model_file, initialise, save_checkpoint
from utils.cli import run
from utils.configio import differences, parse_command_line, preset_named
from utils.errors import ConfigError, ProjectError
from utils.launch import check_launch
from utils.run import RunFolder, refuse_losses
from utils.training.adversary import Adversary
from utils.training.data import data_report, training_data, validation_data
from utils.training.precision import resolve
from utils.training.schedule import learning_rate, micro_batch, sample_indices
from utils.training.step_folders import newest_good, prune, publish, sweep_up
from utils.training.stopping import StopRequest
from utils.training.training_state import load_training_state, save_training_state
from utils.training.validation import is_judge, validate


def build_optimizer(codec: Codec, train: TrainConfig) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """Adam with groups of their own for gain units and quantiles; all but the quantiles are returned, for clipping."""
    groups: dict[str, dict[str, Any]] = {
        "": {"params": [], "base_lr": train.lr},
        "log_gain": {"params": [], "base_lr": train.gain_lr},
        "quantiles": {"params": [], "base_lr": train.quantile_lr},
    }
    for name, parameter in codec.named_parameters():
        if not parameter.requires_grad:
            continue
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
    check_launch(cpu)
    if cpu and train.precision == "fp16":
        raise ConfigError("train.precision fp16 does nothing on a CPU; use auto, bf16 or no.")
    precision = resolve(train.precision, "cpu" if cpu else "cuda")
    parallel = DistributedDataParallelKwargs(
        find_unused_parameters=True,  # Which parts of a codec a loss uses is the codec's affair.
        broadcast_buffers=False,  # Training changes none.
    )
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=4))  # The others wait while one process validates.
    try:
        return Accelerator(
            cpu=cpu,
            mixed_precision=precision,
            dynamo_backend="inductor" if train.compile else "no",
            kwargs_handlers=[parallel, patience],
        )
    except ValueError as error:
        raise ConfigError(
            f"train.precision {precision} cannot be used on this device ({error}); use auto or no."
        ) from error


class Trainer:
    """What the loop needs, made once: accelerator, run folder, codec, its moving average, optimizer, data."""

    def __init__(self, config: Config, runs: Path, init: str, cpu: bool, weights_dir: str | None = None) -> None:
        self.config, train = config, config.train
        self.accelerator = build_accelerator(train, cpu or not torch.cuda.is_available())
        device = self.accelerator.device
        self.main = self.accelerator.is_main_process
        roots = [config.data.root_of(part) for part in (*config.data.training(), *config.data.validation())]
        refuse_losses(runs / config.name, [init and find_model_file(init), weights_dir, *roots], writes=self.main)
        self.micro = micro_batch(train, self.accelerator.num_processes)
        self.mixture = training_data(config)
        self.validation = validation_data(config)
        torch.manual_seed(train.seed)  # Every process starts from the same codec and critic.
        self.perceptual = build_judge(config.loss, weights_dir)
        if self.perceptual is not None:
            self.perceptual.to(device)
        codec = build_codec(config)
        start = initialise(codec, init) if init else None
        self.keeps_sender = train.receiver_only or train.denoiser_only
        if self.keeps_sender and start is None:
            which = "denoiser_only keeps the rest" if train.denoiser_only else "receiver_only keeps the sender"
            raise ConfigError(f"train.{which} of a checkpoint: give one with --init.")
        self.run = RunFolder(runs, config, writes=self.main)  # After all that a wrong command could be refused for.
        self.run.started_from(start)
        self.run.log(data_report(config, self.mixture, self.validation))
        if self.keeps_sender:
            for name, part in codec.named_children():
                trains = name in codec.denoiser if train.denoiser_only else name not in codec.sender
                part.requires_grad_(trains)
        codec = codec.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.codec = codec
        self.ema: Codec = copy.deepcopy(codec).requires_grad_(False)
        optimizer, self.clipped = build_optimizer(codec, train)
        self.model, self.optimizer = self.accelerator.prepare(codec, optimizer)
        self.adversary = (
            Adversary(self.perceptual, train.critic_lr, self.accelerator)
            if isinstance(self.perceptual, AdversarialLoss)
            else None
        )
        self.stop = StopRequest(announce=self.main)
        self.step = self.saved = 0
        self.best = float("inf")
        self.owes_validation = False
        self._resume()

    def _state(self) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
        """All that training carries from step to step."""
        modules: dict[str, nn.Module] = {"model": self.codec, "ema": self.ema}
        optimizers = {"optimizer": self.optimizer.optimizer}
        if self.adversary is not None:
            modules["critic"] = self.adversary.loss.critic
            optimizers["critic_optimizer"] = self.adversary.optimizer
        return modules, optimizers

    def _resume(self) -> None:
        folder = None
        if self.main:
            sweep_up(self.run.checkpoints)
            folder = newest_good(self.run.checkpoints, self.run.log)
            prune(self.run.checkpoints, self.config.train.keep)  # A process killed after saving may not have.
        (folder,) = broadcast_object_list([folder])
        if folder is not None:
            self.step, extra = load_training_state(folder, *self._state())
            self.saved, self.best = self.step, extra["best"]
            self.owes_validation = extra.get("owes_validation", False)
            if self.accelerator.scaler is not None and extra["scaler"]:
                self.accelerator.scaler.load_state_dict(extra["scaler"])
            self.run.log(f"resumed after step {self.step} from {folder}")
        self.run.rewind(self.step)

    def save(self) -> None:
        """Write checkpoints/step_NNNNNNNN: it appears complete or not at all. Returns when it is there."""
        self.accelerator.wait_for_everyone()
        if self.main:
            scaler = self.accelerator.scaler
            extra = {
                "best": self.best,
                "owes_validation": self.owes_validation,
                "scaler": scaler.state_dict() if scaler is not None else {},
            }
            with publish(self.run.checkpoints / f"step_{self.step:08d}") as folder:
                self.freeze()
                save_checkpoint(folder / MODEL_FILE, self.ema, self.config, self.step)
                save_training_state(folder, self.step, *self._state(), extra)
            prune(self.run.checkpoints, self.config.train.keep)
        self.saved = self.step
        self.accelerator.wait_for_everyone()

    def freeze(self) -> None:
        """Derive the integers of the averaged weights.

        A sender that does not train keeps its own, and with them its files: rounded on another machine, some of them
        could differ.
        """
        if not self.keeps_sender:
            self.ema.freeze()

    def validate(self) -> None:
        """True file sizes and quality of the averaged weights on `val`; the best by validation loss is kept.

        Where training minimises something else than that loss measures, the last is kept instead.
        A signal to stop breaks it off: then it is still owed, and a resumed run begins with it.
        """
        self.owes_validation = False
        if self.main:
            self.freeze()
            picture = self.run.samples / f"step_{self.step:08d}.png"
            values = validate(self.ema, self.validation, self.config, picture, lambda: self.stop.received is not None)
            self.owes_validation = values is None
            if values is not None:
                self.run.metrics(self.step, values)
                figures = ", ".join(f"{name[4:]} {value:.4g}" for name, value in values.items())
                self.run.log(f"step {self.step} validation: {figures}")
                if values["val/loss"] < self.best or not is_judge(self.config.loss):
                    self.best = values["val/loss"]
                    save_checkpoint(self.run.checkpoints / "best" / MODEL_FILE, self.ema, self.config, self.step)
        self.all_agree(torch.ones((), device=self.accelerator.device))

    def all_agree(self, finite: Tensor) -> bool:
        """Whether `finite` is 1 in every process; by the same reduction all settle whether to stop."""
        votes = torch.tensor(self.stop.votes, device=self.accelerator.device)
        finite_sum, *sums = self.accelerator.reduce(torch.cat([finite.view(1), votes]), "sum").tolist()
        self.stop.settle(sums)
        return bool(finite_sum == self.accelerator.num_processes)

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one micro-batch, and its parts."""
        device = self.accelerator.device
        x, x_side = (batch[name].to(device, non_blocking=True).float() / 255 for name in ("x", "x_side"))
        keys = [Draws.key(self.config.train.seed, int(i)) for i in batch["index"]]
        draws = Draws(keys, device, batch["has_side"])
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
        ids: list[str] = []
        for chunk in range(train.accumulation):
            batch = next(batches)
            ids += batch["id"]
            last = chunk == train.accumulation - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                with accelerator.autocast():  # Not around backward: it would round the float32 parts' gradients.
                    loss, parts = self.forward(batch)
                finite = torch.isfinite(loss.detach()).float()
                if not self.all_agree(finite):
                    raise self._diverged(
                        "" if finite else f", {float(loss.detach())}, for the pairs {', '.join(batch['id'])}"
                    )
                accelerator.backward(loss / train.accumulation)
            for name, part in parts.items():  # A part may be absent: a task that no sample of this chunk drew.
                total.setdefault(name, []).append(part.detach())
        accelerator.unscale_gradients(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.clipped, train.clip)
        if accelerator.scaler is None and not torch.isfinite(norm):  # A loss scaler skips such a step by itself.
            raise self._diverged(f" in its gradient, for the pairs {', '.join(gather_object(ids))}")
        self.optimizer.step()
        means = {name: torch.stack(values).mean() for name, values in total.items()} | {"gradient_norm": norm}
        if self.adversary is not None:
            means |= self.adversary.learn(learning_rate(self.step, train))
        self.step += 1
        update_ema(self.ema, self.codec, self.step, train.ema)
        return means

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

    def train(self) -> int:
        """The loop. Returns the exit status: 0, or 128 plus the number of the signal that stopped it."""
        train = self.config.train
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        indices = sample_indices(train, self.step, rank, processes, self.micro)
        batches = iter(make_loader(self.mixture, indices, self.micro, self.config.data.workers))
        self.run.open_events(self.step)
        precision = self.accelerator.mixed_precision
        number_format = "float32" if precision == "no" else precision
        self.run.log(f"steps {self.step} to {train.steps} on {self.accelerator.device} in {number_format}")
        self.model.train()
        bar = tqdm(total=train.steps, initial=self.step, disable=not self.main, unit="step", smoothing=0.05)
        with self.stop, bar:
            while True:
                if self.owes_validation:
                    self.validate()
                if processes == 1:  # Nobody else to ask, so a signal need not wait for the next reduction.
                    self.stop.settle(self.stop.votes)
                stopped, last = self.stop.agreed, self.step == train.steps
                if self.step > self.saved and (stopped or last or self.step % train.save_every == 0):
                    self.save()
                if stopped or last:
                    break
                parts = self.optimise(batches)
                bar.update()
                last = self.step == train.steps
                self.owes_validation = last or self.step % train.val_every == 0
                if last or self.step % train.log_every == 0:
                    values = self.averages(parts)
                    bar.set_postfix(loss=f"{values['train/loss']:.3f}", bpp=f"{values['train/bpp']:.3f}")
                    self.run.metrics(self.step, values)
        self.run.close_events()
        if stopped:
            self.run.log(f"stopped by {stopped.name} after step {self.step}; the same command goes on")
        else:
            self.run.log(f"done: {self.run.path} after {self.step} steps")
        self.accelerator.end_training()
        return 128 + stopped if stopped else 0


def describe(config: Config, preset: Config) -> str:
    """The whole configuration, the parameters of each part, and the fields in which it differs from its preset."""
    import yaml

    with torch.device("meta"):
        codec = build_codec(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in codec.named_children()}
    lines = [yaml.safe_dump(dataclasses.asdict(config), sort_keys=False).rstrip(), "parameters:"]
    lines += [f"  {name}: {n / 1e6:.3f} M" for name, n in count.items()]
    changed = [f"{name} = {now} (preset: {before})" for name, (before, now) in differences(preset, config).items()]
    last = f"differs from preset {preset.name} in: {', '.join(changed)}" if changed else f"as preset {preset.name}"
    return "\n".join([*lines, f"  total: {sum(count.values()) / 1e6:.3f} M", last])


THE_REAL_THING = (
    f"without --preset this trains {DEFAULT}, a tiny model that shows every part working and compresses badly; for a "
    "model to use, give pairs: accelerate launch train.py --preset small --data.folder-root DIR, with "
    "DIR/{train,val}/{left,right}/NAME.png (README, Data)"
)


def main() -> int:
    """Parse and validate, then print or train; returns the exit status."""
    config, switches = parse_command_line()
    if switches.dry_run:
        print(describe(config, preset_named(switches.preset or DEFAULT)))
        return 0
    trainer = Trainer(config, Path(switches.runs), switches.init, switches.cpu, switches.weights_dir)
    if switches.preset is not None:
        return trainer.train()
    trainer.run.log(THE_REAL_THING)
    status = trainer.train()
    trainer.run.log(THE_REAL_THING)
    return status


if __name__ == "__main__":
    run(main)
