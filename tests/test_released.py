"""The released checkpoints: they load, are what their cards say, and are comparable as the project claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import smooth_pair

from modules.codec import Codec
from utils.checkpoint import MODEL_FILE, load_checkpoint

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
NAMES = ("small", "small_no_side", "small_stage1")


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
    assert (folder / MODEL_FILE).stat().st_size <= 16 * 2**20
    codec = load_checkpoint(folder).codec
    card = (folder / "README.md").read_text()
    assert f"{parameters(codec) / 1e6:.2f} M parameters" in card and parameters(codec) <= 8e6
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
    ours, baseline = (load_checkpoint(CHECKPOINTS / name).codec for name in ("small", "small_no_side"))
    assert not baseline.needs_side and ours.needs_side
    assert abs(decoder(baseline) / decoder(ours) - 1) <= 0.05
    assert parameters(baseline, "g_a", "entropy") == parameters(ours, "g_a", "entropy")
