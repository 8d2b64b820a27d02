"""Two optimizer steps of the second stage in each of two processes: `torchrun worker_stage2.py DATA RUNS INIT`."""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from safetensors.torch import save_file  # noqa: E402
from tiny import tiny_config  # noqa: E402
from torch import Tensor  # noqa: E402

from config import Config  # noqa: E402
from data.mixture import make_loader  # noqa: E402
from train import Trainer  # noqa: E402
from utils.training.optimisation import sample_indices  # noqa: E402

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
    rank, processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
    indices = sample_indices(trainer.config.train, 0, rank, processes, trainer.micro)
    batches = iter(make_loader(trainer.mixture, indices, trainer.micro, 0))
    parts: dict[str, Any] = {"codec": trainer.codec, "critic": trainer.critic.critic}
    found: dict[str, Tensor] = {}
    trainer.model.train()
    for step in range(STEPS):
        trainer.optimise(batches)
        for part, module in parts.items():
            for name, parameter in module.named_parameters():
                if step == 0 and parameter.grad is not None:
                    found[f"gradient {part}.{name}"] = parameter.grad.clone().contiguous()
                if step == STEPS - 1:
                    found[f"weight {part}.{name}"] = parameter.detach().clone().contiguous()
    return found


def main(data: str, runs: Path, init: str) -> None:
    """Both parts, one after the other; what each process finds goes to RUNS/PART-RANK.safetensors."""
    for part in TRAINS:
        trainer = Trainer(stage_2(data, part), runs, init, cpu=True)
        save_file(two_steps(trainer), runs / f"{part}-{trainer.accelerator.process_index}.safetensors")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
