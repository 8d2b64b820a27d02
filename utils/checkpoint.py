"""Checkpoints: one safetensors file that alone rebuilds a codec. Nothing is unpickled.

The file's metadata hold the format number, the configuration and the step. The entropy model's tables and the weights
of h_s are stored as the integers that the coder uses, in 16 bits where a tensor fits; other weights as float16, the
factorized prior's as float32. What a model file from elsewhere claims is checked before memory is taken for it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from config import Config
from modules.codec import Codec, build_codec
from utils.configio import read_config
from utils.configrules import check_codec
from utils.errors import CheckpointError, ConfigError
from utils.files import alteration, replacing, sync, writing

FORMAT = 1
MODEL_FILE = "model.safetensors"


@dataclass
class Checkpoint:
    """A codec ready to code, and where it came from."""

    codec: Codec
    config: Config
    step: int
    path: Path


def find_model_file(path: str | Path) -> Path:
    """The model file that `--ckpt` means: the file itself, a folder with one, or a run (its best, else its latest)."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(
            f"There is no checkpoint at {path}; give a run folder, a checkpoint folder or a {MODEL_FILE}."
        )
    candidates = [path / MODEL_FILE, path / "checkpoints" / "best" / MODEL_FILE]
    candidates += sorted((path / "checkpoints").glob(f"step_{'[0-9]' * 8}/{MODEL_FILE}"), reverse=True)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CheckpointError(
        f"The folder {path} holds no {MODEL_FILE}; give a run folder, a checkpoint folder or the file."
    )


def _float_twins(codec: Codec) -> set[str]:
    """Names of the float weights that a checkpoint leaves out because their integers are in it."""
    return {
        f"{name}.{weight}"
        for name, module in codec.named_modules()
        if hasattr(module, "weight_int")
        for weight in ("weight", "bias")
    }


def _half_precision(codec: Codec) -> set[str]:
    """Names of the weights that a checkpoint stores as float16; buffers and the rate's weights keep their type."""
    names = (name for name, _ in codec.named_parameters())
    return {name for name in names if not name.startswith("entropy.prior.") and not name.endswith("log_gain")}


def _compact(tensor: Tensor, half: bool) -> Tensor:
    """The tensor as it is stored: in 16 bits where nothing is lost, or with `half` where float16 is enough."""
    tensor = tensor.detach().cpu().contiguous()
    if half:
        return tensor.to(torch.float16)
    if tensor.dtype == torch.int32 and torch.equal(tensor.to(torch.int16).to(torch.int32), tensor):
        return tensor.to(torch.int16)
    return tensor.clone()


def _fits(own: Tensor, stored: Tensor) -> bool:
    """Whether a stored tensor may fill this one: equal shape, both floats, or integers that are not wider."""
    if own.shape != stored.shape:
        return False
    if own.is_floating_point():
        return stored.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return stored.dtype == own.dtype or (own.dtype == torch.int32 and stored.dtype in (torch.int8, torch.int16))


def save_checkpoint(path: Path, codec: Codec, config: Config, step: int) -> None:
    """Write `codec` to the file `path`, atomically; RuntimeError if it was not frozen.

    Raises CheckpointError for weights that are not finite or beyond float16, OutputError if the disk is full.
    """
    codec.entropy.tables()
    skip, half = _float_twins(codec), _half_precision(codec)
    tensors = {}
    for name, tensor in codec.state_dict().items():
        if name in skip:
            continue
        stored = _compact(tensor, name in half)
        if stored.is_floating_point() and not bool(torch.isfinite(stored).all()):
            raise CheckpointError(
                f"The weights {name} are not finite or too large for {stored.dtype}; nothing was saved."
            )
        tensors[name] = stored
    metadata = {"format": str(FORMAT), "step": str(step), "config": json.dumps(asdict(config))}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)
        sync(temporary)


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The codec that `--ckpt` names, in evaluation mode on `device`. Raises CheckpointError with the reason."""
    file = find_model_file(path)
    if reason := alteration(file):
        raise CheckpointError(f"{reason}; it is damaged: fetch or train it again.")
    with _opened(file) as handle:
        metadata = dict(handle.metadata() or {})
    if metadata.get("format") != str(FORMAT):
        raise CheckpointError(f"{file} has format {metadata.get('format')}, but this version reads format {FORMAT}.")
    try:
        config = parse_config(metadata["config"])
        step = int(metadata["step"])
        with torch.device("meta"):
            skeleton = build_codec(config)
    except (KeyError, ValueError, RuntimeError, TypeError, IndexError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"The configuration in {file} cannot be used ({reason}); it may be of another version."
        ) from error
    # The file holds every weight that the configuration asks for, so building the network takes no memory beyond that.
    tensors = read_tensors(file)[1]
    _check_tensors(skeleton, tensors, file)
    codec = build_codec(config)
    state = codec.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
    codec.entropy.thaw()
    return Checkpoint(codec.to(device).eval(), config, step, file)


def initialise(codec: Codec, path: str | Path) -> Path:
    """Give `codec` the weights of the checkpoint that `path` names, and return its model file.

    Raises CheckpointError if the architectures differ.
    """
    source = load_checkpoint(path)
    try:
        codec.load_state_dict(source.codec.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{source.path} has another architecture than this configuration ({reason}); start from its own preset."
        ) from error
    return source.path


def _check_tensors(codec: Codec, tensors: dict[str, Tensor], file: Path) -> None:
    """Raise CheckpointError unless all weights of `codec` are there, no others, of its shapes and kinds, and finite.

    `codec` may lie on the meta device.
    """
    state = codec.state_dict()
    expected = set(state) - _float_twins(codec)
    for name in sorted(expected ^ set(tensors)):
        relation = "lacks" if name in expected else "has the unknown weights"
        raise CheckpointError(
            f"{file} {relation} {name}; it does not match its configuration: fetch or train it again."
        )
    for name, tensor in tensors.items():
        own = state[name]
        if not _fits(own, tensor):
            raise CheckpointError(
                f"{file} has {name} as {tensor.dtype} {tuple(tensor.shape)}, but its configuration needs "
                f"{own.dtype} {tuple(own.shape)}."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{file} has values in {name} that are not finite; it is damaged: fetch or train it again."
            )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file. Raises CheckpointError if it is damaged or something else, in the block as well."""
    try:
        with safe_open(file, framework="pt") as handle:
            yield handle
    except (SafetensorError, OSError, struct.error, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{file} is no readable safetensors file ({error}); fetch or train it again.") from error


def read_tensors(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file. Raises CheckpointError if it is damaged or something else."""
    with _opened(file) as handle:
        return dict(handle.metadata() or {}), {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118


def parse_config(text: str) -> Config:
    """The configuration in a model file's metadata.

    Raises ConfigError for unknown and mistyped fields, and for numbers beyond their bounds.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ConfigError("it is nested too deeply") from None
    config = read_config(values, fill=True)
    check_codec(config)
    return config
