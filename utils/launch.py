"""Several processes of one command: whether the environment that announces them is true, before anything waits.

torchrun, accelerate, MPI and Slurm's PMI tell a process its place by environment variables. Left over in a shell, the
same variables make accelerate wait for processes that nobody starts.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from datetime import timedelta

import torch.distributed
from torch.distributed import TCPStore

from utils.errors import ConfigError

# The names that accelerate reads, in its order (accelerate.utils.environment.get_cpu_distributed_information).
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_LOCAL = (
    *("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    *("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
)
_CLUSTER = ("SLURM_STEP_ID", *_SIZES[1:])
"""Signs of srun or mpirun, which start all processes, on a busy file system some minutes apart."""
_PORT = 29500
NOTICE, PATIENCE, CLUSTER_PATIENCE = 5.0, 30.0, 300.0
"""Seconds until one line says what is waited for, and until the others count as absent: by hand, and in a cluster."""
_store: TCPStore | None = None
"""Kept in rank 0: the process group's store shares its port, and the others may be reading from it."""


def check_launch(cpu: bool) -> None:
    """Return if this process is alone, or when the others that the environment announces are there.

    `cpu`: whether the CPU computes, as accelerate is told. Raises ConfigError that names the variables and the remedy.
    """
    numbers = {name: _number(name) for name in (*_SIZES, *_RANKS, *_LOCAL) if name in os.environ}
    size_name = next((name for name in _SIZES if numbers.get(name, -1) >= 0), None)
    rank_name = next((name for name in _RANKS if numbers.get(name, -1) >= 0), None)
    size = numbers[size_name] if size_name else 1
    joins = numbers.get("LOCAL_RANK", -1) >= 0 or (cpu and max(numbers.get(name, 1) for name in _SIZES) > 1)
    if not joins or torch.distributed.is_initialized():
        return
    # A place needs all four; accelerate itself assumes rank 0 of 1 and the usual port.
    host = os.environ.get("MASTER_ADDR")
    have = {_SIZES[0]: size_name, _RANKS[0]: rank_name, "MASTER_ADDR": host}
    absent = [name for name, found in have.items() if not found]
    port = _number("MASTER_PORT") if "MASTER_PORT" in os.environ else _PORT
    if absent or host is None or rank_name is None:
        raise ConfigError(_sentence(numbers, f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not set"))
    rank = numbers[rank_name]
    if not (0 <= rank < size and 0 < port < 2**16):
        raise ConfigError(
            _sentence(numbers, f"{rank_name} {rank} of {size_name} {size} at port {port} is no place in it")
        )
    _meet(host, port, rank, size, numbers)


def _meet(host: str, port: int, rank: int, size: int, numbers: dict[str, int]) -> None:
    """Wait until all processes have come to rank 0's store. Raises ConfigError if they do not."""
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # By torchrun itself, which starts all.
    patience = CLUSTER_PATIENCE if any(name in os.environ for name in _CLUSTER) and not served else PATIENCE
    serves = rank == 0 and not served
    limit = timedelta(seconds=patience)
    reason = f"nobody answers at MASTER_ADDR {host}, port {port}"

    def meet() -> None:
        global _store
        nonlocal reason
        while not serves and not _answers(host, port):  # Asked first, since torch prints a page where nobody does.
            time.sleep(0.2)
        reason = f"what answers at MASTER_ADDR {host}, port {port}, is no process of this command"
        try:
            if not served:
                _store = TCPStore(host, port, size, serves, limit, wait_for_workers=True, multi_tenant=True)
            reason = ""
        except RuntimeError as error:  # Its first line says how many have come, or that the port is taken.
            reason = f"at MASTER_ADDR {host}, port {port}: {str(error).splitlines()[0].rstrip('. ')}"

    # In a thread, for another program at that port may never say a word, and no timeout of TCPStore ends that.
    thread = threading.Thread(target=meet, daemon=True)
    thread.start()
    thread.join(NOTICE)
    if thread.is_alive():
        print(f"waiting: {_sentence(numbers, 'the others are not here yet')}", file=sys.stderr, flush=True)
        thread.join(patience + NOTICE)  # The store gives up by itself a moment after its limit.
    if reason:
        raise ConfigError(_sentence(numbers, reason))


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=NOTICE).close()
    except OSError:
        return False
    return True


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise ConfigError(
            f"The environment variable {name} is {os.environ[name]!r}, not a number; `unset {name}` for one process, "
            "or start several with torchrun or accelerate launch."
        ) from None


def _sentence(numbers: dict[str, int], reason: str) -> str:
    said = ", ".join(f"{name}={value}" for name, value in numbers.items())
    return (
        f"The environment ({said}) says that this is one of several processes, but {reason}; if a launcher left it "
        f"behind, `unset {' '.join(numbers)}`, and to use several processes, start with torchrun or accelerate launch."
    )
