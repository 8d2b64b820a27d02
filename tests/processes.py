"""Commands started as a user would."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, by default in the repository's folder; `env` is added to the environment."""
    options = {"cwd": ROOT, "timeout": 300, **options, "env": os.environ | options.get("env", {})}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Two processes of one thread each, rendezvous on a free port."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return python(*launcher, *arguments, env={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
