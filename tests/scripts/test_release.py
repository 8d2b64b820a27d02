"""A released checkpoint is the run's, with a portable data root and, where asked for, its own default gamma."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_files import write_untrained
from script_files import load_script

from config import Config, DataConfig
from modules.codec import Codec, build_codec
from utils.checkpoint import MODEL_FILE, load_checkpoint, save_checkpoint
from utils.errors import OutputError

ROOT = Path(__file__).resolve().parents[2]


def release(ckpt: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/release.py"), "--ckpt", str(ckpt), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_only_the_data_root_and_the_default_gamma_change(tiny: Config, tiny_codec: Codec, tmp_path: Path) -> None:
    local = replace(tiny, data=replace(tiny.data, folder_root=str(tmp_path / "mine")))
    save_checkpoint(tmp_path / "run" / MODEL_FILE, tiny_codec, local, 80)
    done = release(tmp_path / "run", tmp_path / "out", "--gamma", "0.25")
    assert done.returncode == 0 and "step 80" in done.stdout, done.stderr
    before, after = (load_checkpoint(tmp_path / name) for name in ("run", "out"))
    assert after.config.data.folder_root == DataConfig().folder_root
    assert after.codec.default_gamma == 0.25 != before.codec.default_gamma
    fields = replace(after.config, data=before.config.data, diffusion=before.config.diffusion)
    assert fields == before.config and after.step == before.step
    old, new = before.codec.state_dict(), after.codec.state_dict()
    assert old.keys() == new.keys() and all(torch.equal(value, new[name]) for name, value in old.items())


def test_a_gamma_out_of_range_is_a_sentence(tmp_path: Path) -> None:
    done = release(tmp_path, tmp_path / "out", "--gamma", "2")
    assert done.returncode == 1 and "--gamma is 2" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["release", "--out", "FILE"], ["benchmark", "--json", "FILE/speed.json"]])
def test_a_file_where_the_folder_should_be(
    command: list[str], tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "FILE").write_text("mine")
    ckpt = write_untrained(tmp_path / "ckpt", tiny)
    name, option, out = command
    monkeypatch.setattr(sys, "argv", [name, "--ckpt", str(ckpt), option, str(tmp_path / out)])
    with pytest.raises(OutputError, match="cannot be written"):
        load_script(name).main()
    assert (tmp_path / "FILE").read_text() == "mine"


def test_a_model_too_large_leaves_the_release_that_is_there(tiny: Config, tiny_codec: Codec, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "out" / MODEL_FILE, tiny_codec, tiny, 80)
    before = (tmp_path / "out" / MODEL_FILE).read_bytes()
    large = replace(tiny, model=replace(tiny.model, unet_channels=(64, 256, 512)))
    codec = build_codec(large)
    codec.freeze()
    save_checkpoint(tmp_path / "run" / MODEL_FILE, codec, large, 90)
    done = release(tmp_path / "run", tmp_path / "out")
    assert done.returncode == 1 and "more than the 16 MiB" in done.stderr and "is as it was" in done.stderr
    assert [f.name for f in (tmp_path / "out").iterdir()] == [MODEL_FILE]
    assert (tmp_path / "out" / MODEL_FILE).read_bytes() == before
