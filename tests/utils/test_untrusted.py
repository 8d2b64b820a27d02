"""Model files made to do harm: refused with one sentence, before memory or time is spent on what they claim."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from checkpoint_files import rewrite
from torch import nn

import config
from config import Config
from modules.codec import build_codec
from utils.checkpoint import load_checkpoint, parse_config
from utils.errors import CheckpointError, ConfigError
from utils.training.checkpoints import STATE_FILE, load_training_state, save_training_state


def claims(**fields: Any) -> str:
    """A configuration as JSON with some fields replaced: model__latent=8, ..."""
    paper = fields.get("model__codec") in ("cdc", "dicm")
    values = asdict(config.PRESETS["cdc_x"] if paper else Config())
    for name, value in fields.items():
        part, _, field = name.partition("__")
        values[part][field] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model__latent": 10**9}, r"model\.latent is 1000000000; it must lie in \[1, 8192\]"),
        ({"model__hyper": -1}, r"model\.hyper is -1"),
        ({"model__unet_channels": [72, 10**9, 192]}, r"model\.unet_channels is 72, 1000000000"),
        ({"model__unet_blocks": [1, 65, 1]}, r"model\.unet_blocks is 1, 65, 1; it must lie in \[1, 64\]"),
        ({"model__side_channels": [4] * 9}, r"model\.side_channels has 9 entries"),
        ({"model__codec": "cdc", "model__dim": 10**12}, r"model\.dim"),
        ({"model__codec": "dicm", "diffusion__timesteps": 10**12}, r"diffusion\.timesteps is 1000000000000"),
        ({"model__unet_channels": [8, 16]}, r"model\.unet_channels has 2 entries"),
        ({"loss__rates": [0.5]}, r"loss\.rates is 0\.5"),
        ({"diffusion__steps": 10**9}, r"diffusion\.steps is"),
        ({"diffusion__steps": 0}, r"diffusion\.steps is 0"),
        ({"diffusion__gamma": 1.5}, r"diffusion\.gamma is 1\.5"),
        ({"diffusion__gamma": float("nan")}, r"diffusion\.gamma is nan; it must lie"),
        ({"loss__lambda_max": float("inf")}, r"lambda_max is inf; it must lie"),
        ({"model__shell": "rm"}, "not a field of this version"),
        ({"model__codec": "../../etc/passwd"}, "must be one of"),
    ],
)
def test_what_a_configuration_may_ask_for(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(claims(**fields))


def test_every_preset_is_within_the_bounds_and_can_be_outlined() -> None:
    """Built on the meta device, as a file's configuration is before its weights are read."""
    for own in config.PRESETS.values():
        assert parse_config(json.dumps(asdict(own))) == own
        with torch.device("meta"):
            codec = build_codec(own)
        # CompressAI makes the small factorized priors on the CPU whatever the device.
        real = {name: weight.numel() for name, weight in codec.named_parameters() if not weight.is_meta}
        assert all("prior." in name for name in real) and sum(real.values()) < 200_000, own.name


def test_a_nested_configuration_is_one_sentence(file: Path) -> None:
    rewrite(file, lambda _, metadata: metadata.update(config="[" * 100_000))
    with pytest.raises(CheckpointError, match="nested too deeply"):
        load_checkpoint(file)


def test_sizes_are_compared_before_anything_is_built(tiny: Config, file: Path) -> None:
    """A configuration within the bounds that asks for gigabytes the file does not hold."""
    values = asdict(tiny)
    values["model"] |= {"unet_channels": [8192, 8192, 8192], "unet_blocks": [64, 64, 64]}
    rewrite(file, lambda _, metadata: metadata.update(config=json.dumps(values)))
    with (
        patch("utils.checkpoint.build_codec", wraps=build_codec) as build,
        pytest.raises(CheckpointError, match=r"does not match its configuration|its configuration needs"),
    ):
        load_checkpoint(file)
    assert build.call_count == 1, "on the meta device"


def test_types_that_no_checkpoint_has(file: Path) -> None:
    rewrite(file, lambda tensors, _: tensors.update({"unet.stem.bias": torch.zeros(16, dtype=torch.uint8)}))
    with pytest.raises(CheckpointError, match=r"unet\.stem\.bias as torch\.uint8 .*needs torch\.float32"):
        load_checkpoint(file)


def test_a_header_that_claims_more_than_the_file_holds(file: Path) -> None:
    """Nothing is allocated for it."""
    claim = {"a": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}}
    text = json.dumps(claim).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(CheckpointError, match="no readable safetensors"):
        load_checkpoint(file)


def training_state(folder: Path) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A small network with an optimizer that has made a step, saved in `folder`."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_training_state(folder, 7, {"model": model, "ema": model}, {"optimizer": optimizer}, {"best": 1.0})
    return model, optimizer


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, m: t.update({"optimizer.9.exp_avg": torch.zeros(1)}), r"no parameter \(optimizer\.9\.exp_avg\)"),
        (lambda t, m: t.update({"optimizer.x.exp_avg": torch.zeros(1)}), "no parameter"),
        (lambda t, m: t.update({"optimizer.0": torch.zeros(1)}), "no parameter"),
        (lambda t, m: t["optimizer.0.exp_avg"].fill_(float("nan")), "not finite"),
        (lambda t, m: t["ema.weight"].fill_(float("inf")), r"ema\.weight that are not finite"),
        (lambda t, m: t.update({"optimizer.0.exp_avg": torch.zeros(1)}), "of other parameters"),
        (lambda t, m: t.update({"../evil": torch.zeros(1)}), "is no training state"),
        (lambda t, m: m.update(step="many"), "which step"),
        (lambda t, m: m.update(extra="[" * 100_000), "which step"),
    ],
)
def test_training_states_that_are_none(tmp_path: Path, change: Callable[..., Any], words: str) -> None:
    model, optimizer = training_state(tmp_path)
    rewrite(tmp_path / STATE_FILE, change)
    with pytest.raises(CheckpointError, match=words):
        load_training_state(tmp_path, {"model": model, "ema": model}, {"optimizer": optimizer})
