"""Training that starts from a checkpoint: whole, or of the receiver or the denoiser alone."""

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from tiny import batch_of_pairs
from trainers import assert_same, config_on, trainer

from modules.entropy import Hyperprior
from utils.checkpoint import MODEL_FILE, load_checkpoint
from utils.errors import CheckpointError, ConfigError
from utils.files import sha256

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def test_init_starts_from_a_checkpoint_under_this_configuration(folder_data: Path, tmp_path: Path) -> None:
    """The weights are the checkpoint's, the settings are not; another architecture is one sentence."""
    config = config_on(folder_data, "source")
    source = trainer(config, tmp_path)
    source.train()
    tuned = config_on(folder_data, "tuned", diffusion={"start_fraction": 0.9}, train={"lr": 1e-4})
    started = trainer(tuned, tmp_path, init=str(tmp_path / "source"))
    assert started.step == 0
    assert started.codec.settings.start_fraction == 0.9
    saved = load_checkpoint(tmp_path / "source").codec.state_dict()
    assert_same({k: v.contiguous() for k, v in started.codec.state_dict().items()}, saved)
    assert started.codec.entropy._likelihood_low.bound > 0  # 1e-9, which float16 does not have.
    started.train()
    with pytest.raises(CheckpointError, match="another architecture"):
        trainer(config_on(folder_data, "other", model={"fusion": "add"}), tmp_path, init=str(tmp_path / "source"))


@pytest.mark.slow
def test_a_run_knows_what_it_was_started_from(folder_data: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 5), ("other", 6)):
        trainer(config_on(folder_data, name, train={"steps": 2, "seed": seed}), tmp_path).train()
    assert json.loads((tmp_path / "first" / "init.json").read_text()) == {"checkpoint": None, "sha256": None}
    config = config_on(folder_data, "tuned", train={"steps": 2})
    trainer(config, tmp_path, init=str(tmp_path / "first")).train()
    best = tmp_path / "first" / "checkpoints" / "best" / MODEL_FILE
    assert json.loads((tmp_path / "tuned" / "init.json").read_text()) == {
        "checkpoint": str(best),
        "sha256": sha256(best),
    }
    longer = replace(config, train=replace(config.train, steps=3))
    assert trainer(longer, tmp_path, init=str(best)).step == 2
    for init, reason in ((str(tmp_path / "other"), "whose weights are others"), ("", "--init gives none")):
        with pytest.raises(ConfigError, match=f"was started from {best}.*{reason}"):
            trainer(longer, tmp_path, init=init)
    first = config_on(folder_data, "first", train={"steps": 3, "seed": 5})
    with pytest.raises(ConfigError, match="was started from fresh weights"):
        trainer(first, tmp_path, init=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"is or holds .*, which is read"):
        trainer(first, tmp_path, init=str(best))
    (tmp_path / "tuned" / "init.json").write_text("{")
    with pytest.raises(ConfigError, match=r"init\.json is damaged"):
        trainer(longer, tmp_path, init=str(best))


def test_a_receiver_trained_alone_reads_the_same_files(folder_data: Path, tmp_path: Path) -> None:
    first = trainer(config_on(folder_data, "first"), tmp_path)
    first.train()
    config = config_on(folder_data, "second", train={"parts": "receiver", "steps": 2})
    second = trainer(config, tmp_path, init=str(tmp_path / "first"))
    with patch.object(Hyperprior, "freeze", side_effect=AssertionError("another machine could round otherwise")):
        second.train()
    old, new = (load_checkpoint(tmp_path / name).codec for name in ("first", "second"))
    assert new.entropy.identity() == old.entropy.identity()
    changed = {name.split(".")[0] for name, p in new.named_parameters() if not p.equal(old.get_parameter(name))}
    assert changed == {name for name, _ in new.named_children()} - set(new.sender)
    x = batch_of_pairs(1)[0][0]
    assert new.compress(x, 0.5) == old.compress(x, 0.5)


def test_a_refused_command_leaves_no_run_that_refuses_the_right_one(folder_data: Path, tmp_path: Path) -> None:
    whole = config_on(folder_data, "whole", train={"steps": 2})
    with pytest.raises(ConfigError, match="fp16"):
        trainer(config_on(folder_data, "whole", train={"steps": 2, "precision": "fp16"}), tmp_path)
    trainer(whole, tmp_path).train()
    part = config_on(folder_data, "part", train={"parts": "receiver", "steps": 2})
    with pytest.raises(ConfigError, match=r"parts receiver keeps the other parts .* --init"):
        trainer(part, tmp_path)
    with pytest.raises(CheckpointError, match="another architecture"):
        other = config_on(folder_data, "part", train={"parts": "receiver"}, model={"fusion": "add"})
        trainer(other, tmp_path, init=str(tmp_path / "whole"))
    assert not (tmp_path / "part").exists()
    assert trainer(part, tmp_path, init=str(tmp_path / "whole")).step == 0


@pytest.mark.slow
def test_a_denoiser_trained_alone_leaves_gamma_0_as_it_was(folder_data: Path, tmp_path: Path) -> None:
    trainer(config_on(folder_data, "first"), tmp_path).train()
    config = config_on(folder_data, "second", train={"parts": "denoiser", "steps": 2})
    trainer(config, tmp_path, init=str(tmp_path / "first")).train()
    old, new = (load_checkpoint(tmp_path / name).codec for name in ("first", "second"))
    changed = {name.split(".")[0] for name, p in new.named_parameters() if not p.equal(old.get_parameter(name))}
    assert changed == {"unet"}
    x, x_side = (images[0] for images in batch_of_pairs(1))
    data = old.compress(x, 0.5)
    assert torch.equal(new.decompress(data, x_side), old.decompress(data, x_side))
    assert not torch.equal(new.decompress(data, x_side, gamma=1.0), old.decompress(data, x_side, gamma=1.0))
    with pytest.raises(ConfigError, match=r"parts denoiser keeps the other parts .* --init"):
        trainer(config_on(folder_data, "third", train={"parts": "denoiser"}), tmp_path)
