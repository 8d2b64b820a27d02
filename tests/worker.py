"""What each of the processes that a test starts does: `torchrun tests/worker.py WHAT ARGUMENTS`, WHAT in `WORK`."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from safetensors.torch import save_file  # noqa: E402
from tiny import tiny_config  # noqa: E402
from torch import Tensor  # noqa: E402

import train as training  # noqa: E402
from config import Config  # noqa: E402
from data.mixture import make_loader  # noqa: E402
from train import Trainer  # noqa: E402
from utils.cli import run  # noqa: E402
from utils.training.checkpoints import STATE_FILE  # noqa: E402
from utils.training.optimisation import sample_indices  # noqa: E402


def shared_config(data: str, name: str, **train: Any) -> Config:
    """One configuration for every number of processes; `row_attention` leaves some parameters without a gradient."""
    return tiny_config(
        name, data={"folder_root": data}, model={"fusion": "row_attention"}, train={"clip": 1e9, **train}
    )


def batches_of(trainer: Trainer) -> Any:
    """Micro-batches of this process from step 0 on."""
    rank, processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
    indices = sample_indices(trainer.config.train, 0, rank, processes, trainer.micro)
    trainer.model.train()
    return iter(make_loader(trainer.mixture, indices, trainer.micro, 0))


def first_gradients(trainer: Trainer) -> dict[str, Tensor]:
    """Gradients of the first optimizer step, which is taken."""
    trainer.optimise(batches_of(trainer))
    return {n: p.grad.contiguous() for n, p in trainer.codec.named_parameters() if p.grad is not None}


def killed_while_saving(trainer: Trainer, step: int) -> None:
    """Train, but both processes get SIGKILL when the checkpoint of `step` is half written."""
    save = training.save_training_state

    def half(folder: Path, at: int, *rest: Any) -> None:
        save(folder, at, *rest)
        if at == step:
            file = folder / STATE_FILE
            file.write_bytes(file.read_bytes()[:5000])
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.object(training, "save_training_state", half):
        trainer.train()


def gradients_and_kill(data: str, runs: str) -> None:
    """Gradients with and without accumulation, then a whole run, then one that is killed."""
    for name, accumulation in (("halves", 1), ("quarters", 2)):
        trainer = Trainer(shared_config(data, name, accumulation=accumulation), Path(runs), "", cpu=True)
        gradients = first_gradients(trainer)
        save_file(gradients, Path(runs) / f"{name}_{trainer.accelerator.process_index}.safetensors")
    config = shared_config(data, "whole")
    trainer = Trainer(config, Path(runs), "", cpu=True)
    with patch.object(trainer.accelerator, "end_training"):
        trainer.train()
    killed_while_saving(Trainer(replace(config, name="killed"), Path(runs), "", cpu=True), 4)


STEPS = 2
TRAINS = {
    "receiver": ({"parts": "receiver"}, {"start_fraction": 0.5}),
    "denoiser": ({"parts": "denoiser"}, {"start_fraction": 0.0}),
}
"""What trains -> fields of `train` and `diffusion`. With the receiver, some samples have neither noise nor critic."""


def stage_2(data: str, part: str) -> Config:
    """As the presets `..._one_step`, with a critic; one sample a process, each with another path to the loss."""
    train, diffusion = TRAINS[part]
    return tiny_config(
        part,
        data={"folder_root": data},
        diffusion={"sampled_steps": 4, "perceptual_floor": 0.25, **diffusion},
        loss={"perceptual": "effnet", "perceptual_weight": 1000.0, "adversarial_weight": 0.1},
        train={"batch_size": 2, "clip": 1e9, "warmup": 0, "decay": 0, "steps": STEPS, **train},
    )


def two_steps(trainer: Trainer) -> dict[str, Tensor]:
    """The first step's gradients of codec and critic, and the weights after the last, by name."""
    assert trainer.critic is not None
    batches = batches_of(trainer)
    parts: dict[str, Any] = {"codec": trainer.codec, "critic": trainer.critic.critic}
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        trainer.optimise(batches)
        for part, module in parts.items():
            for name, parameter in module.named_parameters():
                if step == 0 and parameter.grad is not None:
                    found[f"gradient {part}.{name}"] = parameter.grad.clone().contiguous()
                if step == STEPS - 1:
                    found[f"weight {part}.{name}"] = parameter.detach().clone().contiguous()
    return found


def second_stage(data: str, runs: str, init: str) -> None:
    """Both parts, one after the other; what each process finds goes to RUNS/PART-RANK.safetensors."""
    for part in TRAINS:
        trainer = Trainer(stage_2(data, part), Path(runs), init, cpu=True)
        save_file(two_steps(trainer), Path(runs) / f"{part}-{trainer.accelerator.process_index}.safetensors")


def trouble(name: str, data: str, runs: str) -> int:
    """Train; the second process sends itself the signal NAME in step 2 of many."""
    config = tiny_config(name, data={"folder_root": data}, train={"steps": 1000, "save_every": 2})
    trainer = Trainer(config, Path(runs), "", cpu=True)
    forward = trainer.forward

    def spy(batch: dict[str, Any]) -> Any:
        if trainer.step == 2 and trainer.accelerator.process_index == 1:
            (Path(runs) / "when").write_text(str(time.time()))
            os.kill(os.getpid(), signal.Signals[name])
        return forward(batch)

    with patch.object(trainer, "forward", spy):
        return trainer.train()


WORK = {"gradients": gradients_and_kill, "stage_2": second_stage, "trouble": trouble}

if __name__ == "__main__":
    run(lambda: WORK[sys.argv[1]](*sys.argv[2:]))
