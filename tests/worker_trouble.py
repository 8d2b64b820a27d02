"""One of two processes gets a signal in the middle of a step: `torchrun tests/worker_trouble.py SIGNAL DATA RUNS`."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tiny import tiny_config  # noqa: E402

from train import Trainer  # noqa: E402
from utils.cli import run  # noqa: E402


def main() -> int:
    """Train; the second process signals itself in step 2 of many."""
    number = signal.Signals[sys.argv[1]]
    config = tiny_config(number.name, data={"folder_root": sys.argv[2]}, train={"steps": 1000, "save_every": 2})
    trainer = Trainer(config, Path(sys.argv[3]), "", cpu=True)
    forward = trainer.forward

    def spy(batch: dict[str, Any]) -> Any:
        if trainer.step == 2 and trainer.accelerator.process_index == 1:
            (Path(sys.argv[3]) / "when").write_text(str(time.time()))
            os.kill(os.getpid(), number)
        return forward(batch)

    with patch.object(trainer, "forward", spy):
        return trainer.train()


if __name__ == "__main__":
    run(main)
