"""Checkpoints and small data sets for the tests of evaluation and of the command-line coder."""

import csv
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from image_files import encode, write
from tiny import smooth_pair

from config import Config
from evaluate import parse
from modules.codec import Codec, build_codec
from utils.checkpoint import MODEL_FILE, save_checkpoint
from utils.training.validation import to_uint8

GROUPS = ["a", "a", "b", "b", "c"]
QUICK = ("psnr", "ssim", "ms_ssim_db", "lpips_alex", "fid")


def write_split(root: Path, split: str, groups: list[str], height: int = 64, width: int = 64) -> Path:
    """ROOT/SPLIT/{left,right}/pairN.png with smooth random scenes, and ROOT/manifest.csv with their groups."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "id", "drive"])
        for number, group in enumerate(groups):
            writer.writerow([split, f"pair{number}", group])
            for side, image in zip(("left", "right"), smooth_pair(height, width, 100 + number), strict=True):
                write(root / split / side / f"pair{number}.png", encode(to_uint8(image)))
    return root


def write_checkpoint(folder: Path, codec: Codec, config: Config, data_root: Path | str = "nowhere") -> Path:
    """FOLDER with a checkpoint of `codec` whose configuration names `data_root`; returns the folder."""
    config = replace(config, data=replace(config.data, folder_root=str(data_root)))
    save_checkpoint(folder / MODEL_FILE, codec, config, step=80)
    return folder


def write_untrained(folder: Path, config: Config, data_root: Path | str = "nowhere", **model: Any) -> Path:
    """The same with fresh weights and some fields of the model replaced."""
    config = replace(config, model=replace(config.model, **model))
    codec = build_codec(config).eval()
    codec.freeze()
    return write_checkpoint(folder, codec, config, data_root)


def options(checkpoint: Path, out: Path | None, **fields: Any) -> Namespace:
    """What `python evaluate.py --ckpt CKPT` asks for, into `out`, on the CPU; `fields` replace the rest."""
    own = {"out": out and str(out), "device": "cpu"}
    return Namespace(**vars(parse(["--ckpt", str(checkpoint)])) | own | fields)


def summary_of(out: Path) -> dict[str, Any]:
    """OUT/summary.json."""
    loaded: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return loaded
