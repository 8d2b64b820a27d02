"""train.py on a tiny configuration that also writes down what it sees: `python tests/worker_ids.py DATA RUNS STEPS`.

RUNS/seen-RANK.jsonl gets a line {"step", "index", "id"} a micro-batch. Started by `torchrun`, or alone.
"""

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tiny import tiny_config  # noqa: E402

from config import Config  # noqa: E402
from train import Trainer  # noqa: E402
from utils.cli import run  # noqa: E402


def config_of(data: str, steps: int) -> Config:
    """Some pairs with another's side image, so that a sample is more than its id; a checkpoint every two steps."""
    return tiny_config(
        "resumed",
        data={"folder_root": data, "mismatched": 0.3},
        train={"steps": steps, "decay": 0, "save_every": 2, "accumulation": 2},
    )


def train_and_note(trainer: Trainer, notes: Path) -> int:
    """Train without validation; what each forward pass sees goes to a file of this process."""
    forward = trainer.forward

    def noted(batch: dict[str, Any]) -> Any:
        line = {"step": trainer.step, "index": batch["index"].tolist(), "id": batch["id"]}
        with (notes / f"seen-{trainer.accelerator.process_index}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        return forward(batch)

    with patch.object(trainer, "forward", noted), patch("train.validate", return_value={"val/loss": 0.0}):
        return trainer.train()


def main() -> int:
    """See the module."""
    data, runs, steps = sys.argv[1:]
    trainer = Trainer(config_of(data, int(steps)), Path(runs), "", cpu=True)
    return train_and_note(trainer, Path(runs))


if __name__ == "__main__":
    run(main)
