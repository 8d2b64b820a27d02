"""The study of exactness: a float twin that is the trained network, honest weights, and a verdict that can fail."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import smooth_pair, tiny_config, untrained_codec
from torch import Tensor

from modules.codec import Codec
from scripts.stress import exactness
from scripts.stress.float_entropy import FloatEntropy, Measured, loss, unrounded_weights
from utils.checkpoint import MODEL_FILE, load_checkpoint, save_checkpoint
from utils.errors import CheckpointError
from utils.training.checkpoints import save_training_state


def lively_codec() -> Codec:
    """An untrained codec whose latents have many different symbols, with weights that rounding changes."""
    codec = untrained_codec()
    with torch.no_grad():
        for parameter in codec.entropy.h_a.parameters():
            parameter.mul_(3)
        for layer in codec.entropy.h_s.convolutions():
            layer.weight.mul_(2)
    codec.freeze()
    return codec


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one step and its copy `best`, which has no training state."""
    codec = lively_codec()
    step = tmp_path / "run" / "checkpoints" / "step_00000003"
    save_checkpoint(step / MODEL_FILE, codec, tiny_config(), 3)
    save_training_state(step, 3, {"model": codec, "ema": codec}, {}, {})
    (step.parent / "best").mkdir()
    shutil.copy(step / MODEL_FILE, step.parent / "best")
    return tmp_path / "run"


def latents(codec: Codec, rate: float) -> tuple[Tensor, Tensor]:
    """y of an image, and its level."""
    level = torch.tensor([codec.level(rate)])
    x = smooth_pair(128, 256, seed=5)[0][None]
    with torch.no_grad():
        return codec.g_a(2 * x - 1, level / 255), level  # type: ignore[operator]


def test_the_floats_are_what_the_integers_approximate() -> None:
    """Nearly the same symbols, y_hat and bits; and not the very same, or the twin would not be in floats."""
    codec = lively_codec()
    floats = FloatEntropy(codec.entropy, None)
    for rate in (0.0, 1.0):
        y, level = latents(codec, rate)
        coded, ideal = codec.entropy(y, level), floats(y, level)
        assert coded.y_symbols is not None and ideal.y_symbols is not None
        assert (coded.y_symbols != 0).double().mean() > 0.1
        assert (coded.y_symbols != ideal.y_symbols).double().mean() < 0.01
        assert float(ideal.bits) == pytest.approx(float(coded.bits), rel=0.02) and float(ideal.bits) != coded.bits
        assert (ideal.y_hat - coded.y_hat).abs().median() < 0.01
        assert not torch.equal(ideal.y_hat, coded.y_hat)


def test_the_floats_round_nothing_but_the_symbols() -> None:
    """Where every weight, mean, gain and scale is one that the integers have, both agree to the last bit of a float."""
    codec = untrained_codec(model={"variable_rate": False})
    head = codec.entropy.h_s.convolutions()[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias[:, :16], head.bias[:, 16:] = 0.5, 20.0
        codec.entropy.prior.quantiles.zero_()
    codec.freeze()
    y = 4 * torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    coded, ideal = codec.entropy(y, torch.tensor([0])), FloatEntropy(codec.entropy, None)(y, torch.tensor([0]))
    assert torch.equal(coded.y_hat, ideal.y_hat) and len(coded.y_hat.unique()) > 10
    assert float(ideal.bits) == pytest.approx(float(coded.bits), rel=1e-5)
    with torch.no_grad():
        head.bias[:, :16] += 2.0**-12  # Too little for the integers.
    codec.freeze()
    assert torch.equal(codec.entropy(y, torch.tensor([0])).y_hat, coded.y_hat)
    nudged = FloatEntropy(codec.entropy, None)(y, torch.tensor([0]))
    assert (nudged.y_hat - ideal.y_hat).abs().max() == 2.0**-12


def test_the_float_weights_are_those_before_rounding(run: Path) -> None:
    codec = lively_codec()
    for folder in (run, run / "checkpoints" / "step_00000003", run / "checkpoints" / "best"):
        loaded = load_checkpoint(folder)
        found = unrounded_weights(loaded.codec, loaded.path)
        assert found is not None
        trained = dict(codec.entropy.h_s.named_parameters())
        assert found.keys() == trained.keys() and all(torch.equal(found[name], trained[name]) for name in trained)
        twin = dict(FloatEntropy(loaded.codec.entropy, found).entropy.h_s.named_parameters())
        assert all(torch.equal(twin[name], trained[name].double()) for name in trained)
        rounded = dict(loaded.codec.entropy.h_s.named_parameters())
        assert any(not torch.equal(rounded[name], trained[name]) for name in trained)


def test_a_training_state_of_other_weights_is_never_used(run: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(run)
    loaded.codec.entropy.h_s.convolutions()[0].weight_int[0, 0, 0, 0] += 1
    with pytest.raises(CheckpointError, match="No training state beside"):
        unrounded_weights(loaded.codec, loaded.path)
    alone = tmp_path / "alone" / MODEL_FILE
    alone.parent.mkdir()
    shutil.copy(loaded.path, alone)
    assert unrounded_weights(loaded.codec, alone) is None


def points(factor: float) -> list[Measured]:
    """Four rates, three pairs: the integers need `factor` times the bits for the same PSNR, files 10 % more."""
    spread = np.array([0.8, 1.0, 1.2])
    return [
        Measured(r, b * spread, factor * b * spread, 1.1 * b * spread, q * spread, q * spread, 0.0 * spread)
        for r, b, q in ((0.0, 0.05, 20.0), (0.3, 0.1, 22.0), (0.6, 0.2, 24.5), (1.0, 0.4, 26.0))
    ]


def test_the_loss_is_a_bd_rate_with_an_interval_over_groups() -> None:
    found = loss(points(1.02), ["a", "b", "c"], of_files=False)
    assert found.rate == pytest.approx(2.0) and found.interval is not None
    assert found.interval == (pytest.approx(2.0), pytest.approx(2.0))
    assert loss(points(1.02), ["a", "b", "c"], of_files=True).rate == pytest.approx(10.0)
    assert loss(points(0.99), ["a", "a", "a"], of_files=False).rate == pytest.approx(-1.0)
    few = loss(points(1.0)[:3], ["a", "b", "c"], of_files=False)
    assert few.rate is None and "points" in few.reason


@pytest.mark.parametrize(("factor", "status"), [(1.005, 0), (1.02, 1)])
def test_the_script_fails_if_too_much_is_lost(
    factor: float, status: int, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = points(factor)
    monkeypatch.setattr("scripts.stress.float_entropy.measure", lambda *_: left.pop(0))
    out = run.parent / "study.md"
    command = f"exactness.py --ckpt {run} --dataset builtin --limit 3 --rates 0 0.3 0.6 1 --out {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    assert exactness.main() == status
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result["bd_rate_percent"]["ideal"] == pytest.approx(100 * (factor - 1))
    assert result["rounding_of_weights_included"] and len(result["points"]) == 4
    text = out.read_text()
    assert text.splitlines() == lines[:-1] and "--rates 0 0.3 0.6 1" in text
    assert ("more than the 1 % allowed" in text) == bool(status)


def test_true_files_are_measured(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a checkpoint without training state, which the output says; and the bound, also without data."""
    shutil.copy(run / "checkpoints" / "best" / MODEL_FILE, tmp_path / MODEL_FILE)
    for options in ("--dataset builtin --limit 1 --rates 0 1", "--bounds"):
        monkeypatch.setattr(sys, "argv", f"exactness.py --ckpt {tmp_path} {options}".split())
        assert exactness.main() == 0
    text, bounds = capsys.readouterr().out.strip().split("\n`python")
    result = json.loads(text.splitlines()[-1])
    assert "rounding of weights is not included" in text and not result["rounding_of_weights_included"]
    assert result["bd_rate_percent"]["ideal"] is None and "a curve has 2 points" in text
    for point in result["points"]:
        assert point["bpp_integer"] == pytest.approx(point["bpp_float"], rel=0.02)
        assert point["bpp_file"] == pytest.approx(point["bpp_integer"], rel=0.1)
        assert point["psnr_integer"] == pytest.approx(point["psnr_float"], abs=0.2)
    sums = load_checkpoint(tmp_path).codec.entropy.h_s.largest_sums()
    assert json.loads(bounds.splitlines()[-1]) == {"largest_sums": sums, "exact_limit": 2**53}
    assert all(str(largest) in bounds for largest in sums)
