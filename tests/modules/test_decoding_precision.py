"""--precision: the receiver's networks in bfloat16 read the same files and give almost the same images."""

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from evaluation_files import options, summary_of
from image_files import encode, write
from script_files import one_line
from tiny import smooth_pair

from data.images import read_image
from data.tensors import to_uint8
from modules.codec import Codec
from utils.checkpoint import load_checkpoint
from utils.errors import ConfigError
from utils.evaluation import sweep
from utils.evaluation.pipeline import evaluate
from utils.training.precision import set_decoding_precision
from utils.training.validation import psnr


@pytest.fixture
def codec(ckpt: Path) -> Codec:
    return load_checkpoint(ckpt).codec


def test_bfloat16_changes_pixels_a_little_and_files_not_at_all(codec: Codec) -> None:
    x, x_side = smooth_pair()
    formats: set[torch.dtype] = set()
    codec.g_s.register_forward_hook(lambda _, inputs, output: formats.update(f.dtype for f in output[0]))
    found = {}
    for precision in ("no", "bf16"):
        set_decoding_precision(codec, precision)
        formats.clear()
        data = codec.compress(x, 0.5)
        found[precision] = data, codec.decode_latent(codec.unpack(data)), codec.decompress(data, x_side, gamma=1.0)
        assert formats == {torch.bfloat16 if precision == "bf16" else torch.float32}
    (data, y_hat, exact), (data_2, y_hat_2, rounded) = found["no"], found["bf16"]
    assert data == data_2 and y_hat.equal(y_hat_2)
    assert rounded.dtype == torch.float32 and not rounded.equal(exact)
    assert psnr(to_uint8(exact), to_uint8(rounded)) > 35


def test_the_script_takes_it_for_files_and_for_folders(command, in_this_process, ckpt, codec, tmp_path):
    x, x_side = smooth_pair()
    (tmp_path / "files").mkdir()
    (tmp_path / "sides").mkdir()
    (tmp_path / "files" / "a.bin").write_bytes(codec.compress(x, 0.5))
    write(tmp_path / "sides" / "a.png", encode(to_uint8(x_side)))

    def decompress(file: str, side: str, out: str, *words: str) -> np.ndarray:
        paths = [tmp_path / "files" / file, tmp_path / out, "--side", tmp_path / "sides" / side]
        status, _, err = command("decompress", *paths, "--ckpt", ckpt, "--gamma", 1, *words)
        assert status == 0, err
        return read_image(tmp_path / (out if out.endswith("png") else f"{out}/a.png"))

    exact, rounded = (
        decompress("a.bin", "a.png", f"{p}.png", "--precision", p, "--tile-rows", "192") for p in ("no", "bf16")
    )
    assert (exact != rounded).any() and np.abs(exact.astype(int) - rounded).mean() < 2
    of_folder = decompress("", "", "out", "--precision", "bf16")
    assert np.abs(of_folder.astype(int) - rounded).mean() < np.abs(of_folder.astype(int) - exact).mean() / 4
    assert json.loads((tmp_path / "out" / "decompress.json").read_text())["precision"] == "bf16"
    again = [tmp_path / "files", tmp_path / "out", "--side", tmp_path / "sides", "--ckpt", ckpt, "--gamma", 1]
    assert "precision" in one_line(command("decompress", *again, "--precision", "no"))


@pytest.mark.usefixtures("offline", "quick")
def test_an_evaluation_takes_it_and_says_so(ckpt: Path, tmp_path: Path) -> None:
    request = {"rates": (0.5,), "anchors": ("none",), "limit": 1, "side": ("correct",)}
    with patch.object(sweep, "ModelCoder", side_effect=sweep.ModelCoder) as coder:
        evaluate(options(ckpt, tmp_path / "out", precision="bf16", tile_rows=256, **request))
    codec = coder.call_args.args[0]
    assert codec.decoding_dtype == torch.bfloat16 and codec.tile_rows == 256
    assert summary_of(tmp_path / "out")["environment"]["decoding_precision"] == "bf16"
    assert "decoded in bfloat16" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(ConfigError, match="precision"):
        evaluate(options(ckpt, tmp_path / "out", tile_rows=256, **request))
    with pytest.raises(ConfigError, match="at least 192"):
        evaluate(options(ckpt, tmp_path / "other", tile_rows=100, **request))
