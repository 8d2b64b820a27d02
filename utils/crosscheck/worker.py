"""One setting's process: encodes its share of the files, decodes everybody's, or reconstructs some of them again.

    python -m utils.crosscheck.worker {encode,decode,again} SETTING FOLDER

FOLDER holds the plan. It gets NUMBER.bin (the file), NUMBER.npy (the sender's y_hat), pictures/STAGE/SETTING/NUMBER.npy
(uint8), and STAGE_SETTING.json, what this process found.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modules.bitstream import MAX_EDGE
from modules.codec import Codec, pad
from modules.entropy import Coded
from modules.transforms import HYPER_STRIDE
from utils.crosscheck.plan import File, Plan
from utils.crosscheck.settings import Setting, check_compiled, load, precision
from utils.errors import BitstreamError
from utils.files import write_whole
from utils.images import to_float, to_uint8

ANY_SIZE = MAX_EDGE**2
"""Pixels: files that this check has made may be as large as the format allows."""


def encode(plan: Plan, setting: Setting, codec: Codec, folder: Path) -> list[dict[str, Any]]:
    """Encode this setting's files; {"number", "sha256", "bytes"} of each, with the digest of the sender's y_hat."""
    source = plan.data.open()
    records = []
    for batch in batches([file for file in plan.files if file.setting == setting.name], setting.batch):
        images = [to_float(file.views(source)[0]) for file in batch]
        x = torch.cat([pad(image[None], HYPER_STRIDE) for image in images]).to(setting.device)
        level = torch.tensor([codec.level(file.rate) for file in batch], device=setting.device)
        with torch.no_grad(), precision(setting):
            coded = codec.analyse(x, level)
        for place, (file, image) in enumerate(zip(batch, images, strict=True)):
            one = _sample(coded, place)
            data, y_hat = codec.pack(image, one, file.rate), one.y_hat.cpu().numpy()
            write_whole(folder / f"{file.number}.bin", data)
            np.save(folder / f"{file.number}.npy", y_hat)
            records.append({"number": file.number, "sha256": digest(y_hat), "bytes": len(data)})
    return records


def batches(files: Sequence[File], most: int) -> Iterator[list[File]]:
    """The files in groups of at most `most` that are equally large once padded."""
    groups: dict[tuple[int, int], list[File]] = {}
    for file in files:
        groups.setdefault((-(-file.height // HYPER_STRIDE), -(-file.width // HYPER_STRIDE)), []).append(file)
    for group in groups.values():
        yield from (group[first : first + most] for first in range(0, len(group), most))


def _sample(coded: Coded, place: int) -> Coded:
    """One sample of a batch, as a batch of one."""
    values = {field.name: getattr(coded, field.name) for field in fields(coded)}
    return Coded(**{name: value[place : place + 1] for name, value in values.items()})


def decode(plan: Plan, setting: Setting, codec: Codec, folder: Path) -> list[dict[str, Any]]:
    """Decode every file there is up to y_hat; {"number", "sha256", "detail"} of each.

    `detail` says how it differs from the sender's y_hat, and is empty where all bits are equal.
    """
    records = []
    for file in plan.files:
        path = folder / f"{file.number}.bin"
        if not path.is_file():
            continue
        try:
            with torch.no_grad(), precision(setting):
                y_hat = codec.decode_latent(codec.unpack(path.read_bytes(), ANY_SIZE)).cpu().numpy()
        except BitstreamError as error:
            records.append({"number": file.number, "sha256": None, "detail": f"refused: {error}"})
            continue
        detail = difference(np.load(path.with_suffix(".npy")), y_hat)
        records.append({"number": file.number, "sha256": digest(y_hat), "detail": detail})
    return records


def digest(array: NDArray[Any]) -> str:
    """SHA-256 over type, shape and bytes."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def difference(sent: NDArray[Any], decoded: NDArray[Any]) -> str:
    """How two arrays differ, in words; empty where type, shape and every bit are the same."""
    if (sent.dtype, sent.shape) != (decoded.dtype, decoded.shape):
        return f"{decoded.dtype} {decoded.shape} instead of {sent.dtype} {sent.shape}"
    if sent.tobytes() == decoded.tobytes():
        return ""
    apart = np.abs(sent.astype(np.float64) - decoded)
    return f"{np.count_nonzero(apart)} of {apart.size} values differ, by at most {apart.max():.3g}"


def reconstruct(plan: Plan, setting: Setting, codec: Codec, folder: Path, stage: str) -> list[dict[str, Any]]:
    """Decode the pictures among the files that there are; {"number", "sha256"} of each, the digest in float32."""
    source = plan.data.open()
    pictures = folder / "pictures" / stage / setting.name
    pictures.mkdir(parents=True, exist_ok=True)
    records = []
    for number in plan.pictures:
        path = folder / f"{number}.bin"
        if not path.is_file():
            continue
        x_side = to_float(plan.files[number].views(source)[1])
        with precision(setting):
            x_hat = codec.decompress(
                path.read_bytes(), x_side, steps=plan.steps, gamma=plan.gamma, max_pixels=ANY_SIZE
            ).cpu()
        np.save(pictures / f"{number}.npy", to_uint8(x_hat))
        records.append({"number": number, "sha256": digest(x_hat.numpy())})
    return records


def work(stage: str, name: str, folder: Path) -> None:
    """One stage of one setting. Raises ProjectError for a setting that cannot run here."""
    plan = Plan.load(folder)
    setting = plan.setting(name)
    codec = load(setting, plan.ckpt)
    found: dict[str, Any] = {"files": [], "pictures": []}
    if stage == "encode":
        found["files"] = encode(plan, setting, codec, folder)
    elif stage == "decode":
        found["files"] = decode(plan, setting, codec, folder)
    if stage != "encode" and plan.pictures:
        found["pictures"] = reconstruct(plan, setting, codec, folder, stage)
    check_compiled(setting)
    found |= {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(0) if setting.device == "cuda" else "cpu",
    }
    write_whole(folder / f"{stage}_{name}.json", json.dumps(found).encode())


def main() -> None:
    """See the module."""
    # A dependency of CompressAI uses what torch deprecates; stderr is for what the reader can act on.
    warnings.filterwarnings("ignore", category=FutureWarning)
    work(sys.argv[1], sys.argv[2], Path(sys.argv[3]))


if __name__ == "__main__":
    from utils.cli import run

    run(main)
