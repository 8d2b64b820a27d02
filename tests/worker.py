"""What each of the processes that `test_two_processes.py` starts does: `torchrun tests/worker.py DATA RUNS`."""

import os
import signal
import sys
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
from train import Trainer  # noqa: E402
from utils.training.checkpoints import STATE_FILE  # noqa: E402
from utils.training.optimisation import sample_indices  # noqa: E402


def shared_config(data: str, name: str, **train: Any) -> Config:
    """One configuration for every number of processes; `row_attention` leaves some parameters without a gradient."""
    return tiny_config(
        name, data={"folder_root": data}, model={"fusion": "row_attention"}, train={"clip": 1e9, **train}
    )


def first_gradients(trainer: Trainer) -> dict[str, Tensor]:
    """Gradients of the first optimizer step, which is taken."""
    processes, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    indices = list(sample_indices(trainer.config.train, 0, rank, processes, trainer.micro))[
        : trainer.config.train.batch_size // processes
    ]
    trainer.model.train()
    trainer.optimise(iter(training.make_loader(trainer.mixture, indices, trainer.micro, 0)))
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


def main(data: str, runs: Path) -> None:
    """Gradients with and without accumulation, then a whole run, then one that is killed."""
    for name, accumulation in (("halves", 1), ("quarters", 2)):
        trainer = Trainer(shared_config(data, name, accumulation=accumulation), runs, "", cpu=True)
        gradients = first_gradients(trainer)
        save_file(gradients, runs / f"{name}_{trainer.accelerator.process_index}.safetensors")
    config = shared_config(data, "whole")
    trainer = Trainer(config, runs, "", cpu=True)
    with patch.object(trainer.accelerator, "end_training"):
        trainer.train()
    killed_while_saving(Trainer(replace(config, name="killed"), runs, "", cpu=True), 4)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
