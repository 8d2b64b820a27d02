"""A released checkpoint is the run's, with a portable data root and, where asked for, its own default gamma."""

from dataclasses import replace

import torch
from script_files import one_line

from config import DataConfig
from modules.codec import build_codec
from utils.checkpoint import MODEL_FILE, load_checkpoint, save_checkpoint


def test_only_the_data_root_and_the_default_gamma_change(command, tiny, tiny_codec, tmp_path):
    local = replace(tiny, data=replace(tiny.data, folder_root=str(tmp_path / "mine")))
    save_checkpoint(tmp_path / "run" / MODEL_FILE, tiny_codec, local, 80)
    status, out, _ = command("release", "--ckpt", tmp_path / "run", "--out", tmp_path / "out", "--gamma", 0.25)
    assert status == 0 and "step 80" in out
    before, after = (load_checkpoint(tmp_path / name) for name in ("run", "out"))
    assert after.config.data.folder_root == DataConfig().folder_root
    assert after.codec.default_gamma == 0.25 != before.codec.default_gamma
    fields = replace(after.config, data=before.config.data, diffusion=before.config.diffusion)
    assert fields == before.config and after.step == before.step
    old, new = before.codec.state_dict(), after.codec.state_dict()
    assert old.keys() == new.keys() and all(torch.equal(value, new[name]) for name, value in old.items())


def test_what_cannot_be_released_leaves_the_release_that_is_there(command, tiny, tiny_codec, tmp_path):
    save_checkpoint(tmp_path / "out" / MODEL_FILE, tiny_codec, tiny, 80)
    before = (tmp_path / "out" / MODEL_FILE).read_bytes()
    large = replace(tiny, model=replace(tiny.model, unet_channels=(64, 256, 800)))
    codec = build_codec(large)
    codec.freeze()
    save_checkpoint(tmp_path / "run" / MODEL_FILE, codec, large, 90)
    given = ["--ckpt", tmp_path / "run", "--out", tmp_path / "out"]
    assert "--gamma is 2" in one_line(command("release", *given, "--gamma", 2))
    said = one_line(command("release", *given))
    assert "more than the 24 MiB" in said and "is as it was" in said
    assert [f.name for f in (tmp_path / "out").iterdir()] == [MODEL_FILE]
    assert (tmp_path / "out" / MODEL_FILE).read_bytes() == before
