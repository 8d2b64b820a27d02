"""What every codec of the project promises, ours and the published ones: a new method is tested by adding its name to
`tiny_methods.METHODS`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from evaluation_files import options, summary_of, write_checkpoint
from tiny import batch_of_pairs, smooth_pair
from tiny_methods import METHODS, SIZE, tiny_method, train_a_step

from config import Config
from modules.codec import Codec
from modules.noise import Draws
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.configio import read_config
from utils.configrules import validate
from utils.errors import BitstreamError
from utils.evaluation.pipeline import evaluate


def rate_of(codec: Codec) -> float | None:
    return 0.5 if codec.variable_rate else None


TWINS = [name for name in METHODS if name.endswith("_vr") or name in ("dicm_no_side", "cdc_eps")]
"""Methods of which another preset runs almost the same code."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in TWINS else name for name in METHODS],
)
def method(request: pytest.FixtureRequest) -> tuple[Config, Codec]:
    """A tiny version of each method after a few steps, frozen and in evaluation mode."""
    config = tiny_method(request.param)
    codec, _ = train_a_step(config, 4)
    codec.freeze()
    return config, codec.eval()


def test_its_settings_are_valid_and_survive_json(method: tuple[Config, Codec]) -> None:
    config, _ = method
    validate(config, config)
    assert read_config(asdict(config)) == config


@pytest.mark.parametrize("size", [SIZE, (50, 83)])
def test_a_file_holds_what_the_forward_pass_quantised(method: tuple[Config, Codec], size: tuple[int, int]) -> None:
    _, codec = method
    x, side = smooth_pair(*size, seed=3)
    if codec.only_size not in (None, size):
        with pytest.raises(ValueError, match=f"is {size[1]}x{size[0]}, but the weights of"):
            codec.compress(x, rate_of(codec))
        return
    data = codec.compress(x, rate_of(codec))
    stream = codec.unpack(data)
    coded = codec.code(x, rate_of(codec))
    assert (stream.height, stream.width) == size
    assert torch.equal(codec.decode_latent(stream), coded.y_hat), "to the bit"
    x_hat = codec.decompress(data, side, steps=1)
    assert x_hat.shape == x.shape and x_hat.min() >= 0 and x_hat.max() <= 1
    assert torch.equal(x_hat, codec.decompress(data, side, steps=1)), "the same file, the same pixels"


def test_estimated_bits_are_those_of_the_payload(method: tuple[Config, Codec]) -> None:
    _, codec = method
    x, _ = smooth_pair(*SIZE, seed=3)
    payload = codec.unpack(codec.compress(x, rate_of(codec))).payload
    assert 8 * len(payload) == pytest.approx(codec.estimate_bits(x, rate_of(codec)), rel=0.02, abs=16)


def test_a_higher_rate_makes_a_larger_file(method: tuple[Config, Codec]) -> None:
    _, codec = method
    if codec.variable_rate:
        x, _ = smooth_pair(*SIZE, seed=3)
        assert codec.estimate_bits(x, 0.0) < codec.estimate_bits(x, 1.0)
    else:
        with pytest.raises(ValueError, match="fixed-rate"):
            codec.compress(smooth_pair(*SIZE)[0], 0.5)


def test_the_side_image_changes_the_decoded_image_alone(method: tuple[Config, Codec]) -> None:
    """The sender has no way to it: what it calls takes x and a rate."""
    _, codec = method
    x, side = smooth_pair(*SIZE, seed=3)
    rate = torch.full((1,), 0.5)
    with torch.no_grad():
        latents = [codec(x[None], other[None], rate=rate).y_hat for other in (side, 1 - side)]
    assert torch.equal(*latents)
    data = codec.compress(x, rate_of(codec))
    images = [codec.decompress(data, other, steps=1) for other in (side, 1 - side)]
    assert torch.equal(*images) != codec.needs_side
    if codec.needs_side and not codec.accepts_no_side:
        with pytest.raises(ValueError, match="side"):
            codec.decompress(data, None)


def test_a_damaged_file_gives_a_sentence(method: tuple[Config, Codec]) -> None:
    _, codec = method
    x, _ = smooth_pair(*SIZE, seed=3)
    data = codec.compress(x, rate_of(codec))
    with pytest.raises(BitstreamError, match="checksum"):
        codec.unpack(data[:-1] + bytes([data[-1] ^ 1]))
    stream = codec.unpack(data)
    for payload in (stream.payload + bytes(9), bytes(100_000)):
        with pytest.raises(BitstreamError, match="bytes"):
            codec.decode_latent(dataclasses.replace(stream, payload=payload))
    with pytest.raises(BitstreamError, match="level"):
        codec.decode_latent(dataclasses.replace(stream, level=256))


def test_a_training_step_moves_every_part(method: tuple[Config, Codec]) -> None:
    config, _ = method
    codec, losses = train_a_step(config)
    assert all(torch.isfinite(torch.tensor(losses)))
    idle = [name for name, p in codec.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == [], "an idle parameter never learns"
    moved = {name.split(".")[0] for name, p in codec.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, part in codec.named_children() if list(part.parameters())}


@pytest.mark.slow
def test_training_lowers_the_loss(method: tuple[Config, Codec]) -> None:
    config, _ = method
    _, losses = train_a_step(config, 12)
    assert losses[-1] < losses[0]


def test_each_sample_has_its_own_draws_whatever_the_batch(method: tuple[Config, Codec]) -> None:
    _, codec = method
    x, side = batch_of_pairs(2, *SIZE)
    keys = [Draws.key(0, i) for i in range(2)]
    with torch.no_grad():
        both, alone = codec(x, side, Draws(keys)), codec(x[1:], side[1:], Draws(keys[1:]))
    torch.testing.assert_close(both.bits[1:], alone.bits)


def test_its_checkpoint_reads_its_files(method: tuple[Config, Codec], tmp_path: Path) -> None:
    config, codec = method
    save_checkpoint(tmp_path / "model.safetensors", codec, config, 4)
    loaded = load_checkpoint(tmp_path).codec
    x, _ = smooth_pair(*SIZE, seed=3)
    stream = codec.unpack(codec.compress(x, rate_of(codec)))
    assert loaded.entropy.identity() == codec.entropy.identity()
    assert torch.equal(loaded.decode_latent(stream), codec.decode_latent(stream)), "to the bit"


@pytest.mark.slow
def test_all_are_evaluated_by_their_names(tmp_path: Path, evaluation_data: Path, offline: None) -> None:
    names, checkpoints = [], []
    for preset in METHODS:
        config = tiny_method(preset)
        codec, _ = train_a_step(config)
        codec.freeze()
        names.append(codec.name)
        checkpoints.append(str(write_checkpoint(tmp_path / preset, codec.eval(), config, evaluation_data)))
    asked = options(tmp_path, tmp_path / "out", anchors=("none",), metrics=("psnr",), limit=2, side=("correct",))
    asked.ckpt = checkpoints
    evaluate(asked)
    points = summary_of(tmp_path / "out")["points"]
    assert {point["codec"] for point in points} == set(names)
    for point in points:
        assert point["bpp_estimated"] < point["bpp"] < point["bpp_estimated"] * 1.02 + 8 * 14 / (64 * 64)
        assert point["metrics"]["psnr"]["mean"] > 5
