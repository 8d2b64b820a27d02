"""Train a codec: `accelerate launch train.py --preset NAME --field.path VALUE ...`. The same command again resumes.

`Trainer.train` is the loop, `Trainer.optimise` one optimizer step, `Trainer.forward` the loss of one batch.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from tqdm import tqdm

from config import DEFAULT, Config
from data.mixture import make_loader
from data.training import data_report, training_data, validation_data
from modules.codec import Codec, build_codec
from modules.critic import AdversarialLoss, CriticTraining, build_perceptual_term
from modules.losses import objective
from modules.noise import Draws
from utils.checkpoint import MODEL_FILE, find_model_file, initialise, save_checkpoint
from utils.cli import run
from utils.configio import describe, parse_command_line, preset_named
from utils.errors import ConfigError, ProjectError
from utils.run import RunFolder, refuse_losses
from utils.training.checkpoints import (
    load_training_state,
    newest_good,
    prune,
    publish,
    save_training_state,
    sweep_up,
)
from utils.training.optimisation import (
    build_optimizer,
    freeze_other_parts,
    learning_rate,
    micro_batch,
    sample_indices,
    update_ema,
)
from utils.training.precision import build_accelerator
from utils.training.stopping import StopRequest
from utils.training.validation import is_objective, validate


class Trainer:
    """What the loop needs, made once: accelerator, run folder, codec, its moving average, optimizer, data."""

    def __init__(self, config: Config, runs: Path, init: str, cpu: bool, weights_dir: str | None = None) -> None:
        # 1. Processes and device; then the data, and all else that a wrong command is refused for.
        self.config, train = config, config.train
        self.accelerator = build_accelerator(train, cpu or not torch.cuda.is_available())
        device = self.accelerator.device
        self.main = self.accelerator.is_main_process
        roots = [config.data.root_of(part) for part in (*config.data.training(), *config.data.validation())]
        refuse_losses(runs / config.name, [init and find_model_file(init), weights_dir, *roots], writes=self.main)
        self.micro = micro_batch(train, self.accelerator.num_processes)
        self.mixture, self.validation = training_data(config), validation_data(config)
        # 2. Networks: every process starts from the same codec and critic.
        torch.manual_seed(train.seed)
        self.perceptual = build_perceptual_term(config.loss, weights_dir)
        if self.perceptual is not None:
            self.perceptual.to(device)
        codec = build_codec(config)
        start = initialise(codec, init) if init else None
        if train.parts != "all" and start is None:
            raise ConfigError(f"train.parts {train.parts} keeps the other parts of a checkpoint: give one with --init.")
        # 3. The run's folder.
        self.run = RunFolder(runs, config, writes=self.main)
        self.run.started_from(start)
        self.run.log(data_report(config, self.mixture, self.validation))
        # 4. What moves: the parts that train, their moving average, the optimizers.
        freeze_other_parts(codec, train.parts)
        self.codec: Codec = codec.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema: Codec = copy.deepcopy(self.codec).requires_grad_(False)
        optimizer, self.clipped = build_optimizer(self.codec, train)
        self.model, self.optimizer = self.accelerator.prepare(self.codec, optimizer)
        self.critic: CriticTraining | None = None
        if isinstance(self.perceptual, AdversarialLoss):
            self.critic = CriticTraining(self.perceptual, lambda tensor: self.accelerator.reduce(tensor, "sum"))
        # 5. How far the run is.
        self.stop = StopRequest(announce=self.main)
        self.step = self.saved = 0
        self.best = float("inf")
        self.owes_validation = False
        self._resume()

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
                # Validate, save and stop between two optimizer steps; a resumed run begins with what it owes.
                if self.owes_validation:
                    self.validate()
                if processes == 1:  # Nobody else to ask, so a signal need not wait for the next reduction.
                    self.stop.settle(self.stop.votes)
                stopped, last = self.stop.agreed, self.step == train.steps
                if self.step > self.saved and (stopped or last or self.step % train.save_every == 0):
                    self.save()
                if stopped or last:
                    break
                # One optimizer step.
                parts = self.optimise(batches)
                bar.update()
                # Its figures.
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

    def optimise(self, batches: Iterator[dict[str, Any]]) -> dict[str, Tensor]:
        """One optimizer step over `accumulation` micro-batches, and the means of the loss's parts.

        Raises ProjectError if the loss or its gradient is not finite.
        """
        train, accelerator = self.config.train, self.accelerator
        # Learning rates of this step.
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * learning_rate(self.step, train)
        self.optimizer.zero_grad(set_to_none=True)
        # Forward and backward, micro-batch by micro-batch; processes add their gradients in the last one.
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
        # The step itself, with the gradient's norm clipped.
        accelerator.unscale_gradients(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.clipped, train.clip)
        if accelerator.scaler is None and not torch.isfinite(norm):  # A loss scaler skips such a step by itself.
            raise self._diverged(f" in its gradient, for the pairs {', '.join(gather_object(ids))}")
        self.optimizer.step()
        means = {name: torch.stack(values).mean() for name, values in total.items()} | {"gradient_norm": norm}
        # What follows the codec: the critic's own step, and the moving average of the weights.
        if self.critic is not None:
            means |= self.critic.step(learning_rate(self.step, train))
        self.step += 1
        update_ema(self.ema, self.codec, self.step, train.ema)
        return means

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one micro-batch, and its parts."""
        # 1. x and x_side (B, 3, H, W) in [0, 1]; random numbers follow from the run's seed and each sample's index.
        device = self.accelerator.device
        x, x_side = (batch[name].to(device, non_blocking=True).float() / 255 for name in ("x", "x_side"))
        keys = [Draws.key(self.config.train.seed, int(i)) for i in batch["index"]]
        draws = Draws(keys, device, batch["has_side"])
        # 2. The codec: estimated bits of x, and estimates of x by its denoising tasks (`DiffusionCodec.forward`).
        with self.accelerator.autocast():
            output = self.model(x, x_side, draws)
        # 3. L = R + lambda D and further terms (`modules/losses.py`), and the codec's own (`CodecOutput.aux`).
        disparity = batch["disparity"].to(device, non_blocking=True) if "disparity" in batch else None
        loss, parts = objective(output, self.config.loss, self.codec.variable_rate, self.perceptual, disparity)
        return (loss if output.aux is None else loss + output.aux), parts

    def all_agree(self, finite: Tensor) -> bool:
        """Whether `finite` is 1 in every process; by the same reduction all settle whether to stop."""
        votes = torch.tensor(self.stop.votes, device=self.accelerator.device)
        finite_sum, *sums = self.accelerator.reduce(torch.cat([finite.view(1), votes]), "sum").tolist()
        self.stop.settle(sums)
        return bool(finite_sum == self.accelerator.num_processes)

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

    def validate(self) -> None:
        """True file sizes and quality of the averaged weights on `val`; the best by validation loss is kept.

        Where training minimises another loss than validation measures, the last is kept instead. A signal to stop
        breaks it off: then it is still owed, and a resumed run begins with it.
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
                if values["val/loss"] < self.best or not is_objective(self.config.loss):
                    self.best = values["val/loss"]
                    save_checkpoint(self.run.checkpoints / "best" / MODEL_FILE, self.ema, self.config, self.step)
        self.all_agree(torch.ones((), device=self.accelerator.device))

    def freeze(self) -> None:
        """Derive the integers of the averaged weights.

        A sender that does not train keeps its integers, and with them its files: rounded anew on another machine, some
        of them could differ.
        """
        if self.config.train.parts == "all":
            self.ema.freeze()

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

    def _state(self) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
        """All that training carries from step to step."""
        modules: dict[str, nn.Module] = {"model": self.codec, "ema": self.ema}
        optimizers = {"optimizer": self.optimizer.optimizer}
        if self.critic is not None:
            modules["critic"] = self.critic.critic
            optimizers["critic_optimizer"] = self.critic.optimizer
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
