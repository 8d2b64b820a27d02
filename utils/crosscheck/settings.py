"""The settings under which files are coded, and what each of them does to a codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from modules.codec import Codec


@dataclass(frozen=True)
class Setting:
    """How one process loads and runs the codec. `batch`: most images that are analysed together."""

    name: str
    what: str
    threads: int = 2
    device: str = "cpu"
    bfloat16: bool = False
    channels_last: bool = False
    batch: int = 1
    compiled: bool = False
    python: str | None = None
    """Another interpreter, whose environment has another release of torch; None: this one."""


REFERENCE = "threads1"
"""What pictures are compared with."""
SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(REFERENCE, "float32", threads=1),
        Setting("threads2", "float32"),
        Setting("bf16", "bfloat16 autocast around every call", bfloat16=True),
        Setting("channels_last", "weights in channels_last", channels_last=True),
        Setting("batched", "up to 4 images of mixed rates analysed in one batch", batch=4),
        Setting("compiled", "torch.compile of every network, whole graphs", compiled=True),
        Setting("cuda", "weights on the first GPU", device="cuda"),
    )
}


def other(number: int, python: str) -> Setting:
    """The setting of the interpreter that `--python` names for the `number`-th time, from 1."""
    return Setting(f"other{number}", "float32 in another environment", python=python)


def load(setting: Setting, ckpt: str) -> Codec:
    """A checkpoint's codec as this process has to run it; sets its threads. Raises ConfigError, CheckpointError."""
    import torch

    from utils.checkpoint import load_checkpoint

    if setting.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"The setting {setting.name} needs a GPU that torch {torch.__version__} can use.")
    torch.set_num_threads(setting.threads)
    codec = load_checkpoint(ckpt, setting.device).codec
    if setting.channels_last:
        codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if setting.compiled:
        _compile(codec)
    return codec


def precision(setting: Setting) -> torch.autocast:
    """The context in which every call of the codec runs."""
    import torch

    return torch.autocast(setting.device, dtype=torch.bfloat16, enabled=setting.bfloat16)


def check_compiled(setting: Setting) -> None:
    """Raise ConfigError if this setting should have compiled something by now and has not."""
    from torch._dynamo.utils import counters

    if setting.compiled and not counters["stats"]["unique_graphs"]:
        raise ConfigError("torch.compile compiled nothing; it may be disabled by an environment variable.")


def _compile(codec: Codec) -> None:
    """Compile every network of both halves, and the exact one; the coder between them is no work of torch.

    With whole graphs demanded, what cannot be compiled is an error instead of running uncompiled.
    """
    import torch

    from utils.training.precision import compile_networks

    torch._dynamo.config.cache_size_limit = 64  # Square, narrow and single-position latents each have their own graph.
    compile_networks(codec, fullgraph=True, dynamic=True)
    h_s = codec.entropy.h_s
    h_s.integer_forward = torch.compile(h_s.integer_forward, fullgraph=True, dynamic=True)  # type: ignore[method-assign]
