"""The released checkpoints: they load, are what their cards say, and are comparable as the project claims."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import smooth_pair

from data.sources import open_source
from data.tensors import to_float
from modules.codec import LEVELS, Codec
from modules.transforms import PATCH
from utils.checkpoint import MODEL_FILE, load_checkpoint

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
NAMES = ("small", "small_kitti", "small_no_side")


def parameters(codec: Codec, *parts: str) -> int:
    chosen = [part for name, part in codec.named_children() if not parts or name in parts]
    return sum(p.numel() for part in chosen for p in part.parameters())


def decoder(codec: Codec) -> int:
    return parameters(codec, "e_side", "g_s", "mean", "unet")


def test_every_released_checkpoint_is_tested_here() -> None:
    assert sorted(path.name for path in CHECKPOINTS.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_its_card_says_and_codes(name: str) -> None:
    folder = CHECKPOINTS / name
    assert (folder / MODEL_FILE).stat().st_size <= 24 * 2**20
    codec = load_checkpoint(folder).codec
    card = (folder / "README.md").read_text()
    assert f"{parameters(codec) / 1e6:.2f} M parameters" in card and parameters(codec) <= 12e6
    x, x_side = smooth_pair(128, 192)
    small, large = (codec.compress(x, rate) for rate in (0.0, 1.0))
    side = x_side if codec.needs_side else None
    errors = [float((codec.decompress(data, side) - x).square().mean()) for data in (small, large)]
    assert 7 < len(small) < len(large) / 4 and errors[1] < errors[0] < float((x - x.mean()).square().mean())


def test_no_checkpoint_reads_files_of_another() -> None:
    """Stage 2 trains the sender too, so a file names the checkpoint that made it."""
    identities = [load_checkpoint(CHECKPOINTS / name).codec.entropy.identity() for name in NAMES]
    assert len(set(identities)) == len(NAMES)


def test_the_baselines_decoder_is_as_large_and_sees_no_side_image() -> None:
    """Within 5 %; its sender has the same shape."""
    ours, baseline = (load_checkpoint(CHECKPOINTS / name).codec for name in ("small_kitti", "small_no_side"))
    assert not baseline.needs_side and ours.needs_side
    assert abs(decoder(baseline) / decoder(ours) - 1) <= 0.05
    assert parameters(baseline, "g_a", "entropy") == parameters(ours, "g_a", "entropy")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "small_kitti"])
def test_consecutive_rate_levels_leave_no_gap(name: str) -> None:
    """Over all 256 levels, no file is more than a tenth larger than its predecessor (docs/decisions.md: 2 %)."""
    codec = load_checkpoint(CHECKPOINTS / name).codec
    x = to_float(open_source("builtin", split="test", limit=1)[0].x)
    sizes = np.array([len(codec.compress(x, level / (LEVELS - 1))) for level in range(LEVELS)])
    growth = sizes[1:] / sizes[:-1]
    assert growth.max() < 1.1 and growth.min() > 0.97 and sizes[-1] > 10 * sizes[0]


def test_the_alignment_finds_the_disparity() -> None:
    """The offset by which x_side is warped at 1/4 against the measured disparity of scikit-image's stereo pair."""
    codec = load_checkpoint(CHECKPOINTS / "small").codec
    offsets: list[torch.Tensor] = []
    codec.g_s.fuse[0].register_forward_hook(lambda layer, given, result: offsets.append(result[1].offset[0, 0]))
    warp, constant = [], []
    for pair in open_source("builtin", split="test", limit=4):
        codec.decompress(codec.compress(to_float(pair.x), 0.5), to_float(pair.x_side))
        # x at column u is x_side at column u - disparity; comparisons leave out the unknown, which is NaN.
        truth = pair.disparity[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
        valid = np.arange(truth.shape[1]) * PATCH >= truth
        warp.append(np.median(np.abs(-PATCH * offsets.pop().numpy() - truth)[valid]))
        constant.append(np.median(np.abs(np.median(truth[valid]) - truth)[valid]))
    assert np.mean(warp) < 1.3 and np.mean(constant) > 2 * np.mean(warp)
