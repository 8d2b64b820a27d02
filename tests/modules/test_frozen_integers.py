"""The integers that files are read with: their identity, when they are derived, and what is refused."""

import copy
from unittest.mock import patch

import pytest
import torch
from entropy_models import fresh, frozen, latent
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import smooth_pair, tiny_config, untrained_codec

from modules.codec import Codec
from modules.entropy import Hyperprior
from utils.checkpoint import MODEL_FILE, load_checkpoint, save_checkpoint
from utils.errors import CheckpointError


def test_identity_is_of_everything_that_decides_how_a_file_is_read() -> None:
    """Changing any of these integers must change the tag and the checksum, or a wrong model would decode garbage."""
    entropy = frozen()
    before = entropy.identity()
    assert len(before) == 32 and entropy.identity() == before
    tables = [entropy.z_frequencies, entropy.z_medians, entropy.y_frequencies, entropy.inverse_gain]
    for layer in entropy.h_s.convolutions():
        tables += [layer.weight_int, layer.bias_int]
    for table in tables:
        table.view(-1)[-1] += 1
        assert entropy.identity() != before
        table.view(-1)[-1] -= 1
    assert entropy.identity() == before
    with torch.no_grad():
        for parameter in entropy.h_a.parameters():
            parameter.add_(1)  # The sender's own affair.
    assert entropy.identity() == before


def test_identity_is_computed_once_and_again_after_any_change() -> None:
    """It is part of every file's header, and a stale one would make files that no decoder accepts."""
    entropy = frozen()
    before = entropy.identity()
    with patch.object(entropy, "_digest", side_effect=AssertionError("computed again")):
        assert entropy.identity() == before
    with torch.no_grad():
        entropy.log_gain.add_(0.5)
    assert entropy.identity() == before
    entropy.freeze()
    changed = entropy.identity()
    assert changed != before == frozen().identity()
    other = fresh()
    other.load_state_dict(entropy.state_dict())
    assert other.identity() == changed
    entropy.inverse_gain = entropy.inverse_gain + 1
    assert entropy.identity() not in (before, changed)


def test_a_copy_of_a_model_that_has_coded_is_independent(tiny_codec: Codec) -> None:
    x, _ = smooth_pair(seed=3)
    data = tiny_codec.compress(x, 0.5)
    other = copy.deepcopy(tiny_codec)
    with torch.no_grad():
        other.entropy.log_gain.add_(0.5)
        other.entropy.prior.quantiles.add_(0.25)
    other.freeze()
    assert other.compress(x, 0.5) != data and tiny_codec.compress(x, 0.5) == data


def test_coding_before_freezing_is_a_clear_error() -> None:
    entropy = fresh()
    with pytest.raises(RuntimeError, match="freeze"):
        entropy(latent(1), torch.tensor([0]))
    with pytest.raises(RuntimeError, match="freeze"):
        entropy.decode(b"", (1, 1), 0)


def test_integers_that_change_after_freezing_are_checked_before_anything_is_coded() -> None:
    entropy = frozen()
    coded = entropy.quantise(latent(1), torch.tensor([0]))
    payload = entropy.encode(coded)
    entropy.h_s.convolutions()[1].weight_int[3] = 2**30
    for use in (
        lambda: entropy.quantise(latent(1), torch.tensor([0])),
        lambda: entropy.encode(coded),
        lambda: entropy.decode(payload, (1, 1), 0),
        entropy.tables,
        entropy.thaw,
    ):
        with pytest.raises(CheckpointError, match=r"layer 1 .* 2\^53"):
            use()


def inexact_layer(entropy: Hyperprior) -> None:
    entropy.h_s.convolutions()[0].weight_int[0] = 2**30


def inexact_medians(entropy: Hyperprior) -> None:
    entropy.z_medians[3] = 2**20 - 127 * 256


@pytest.mark.parametrize(("damage", "words"), [(inexact_layer, r"layer 0 .* 2\^53"), (inexact_medians, "medians of z")])
def test_a_checkpoint_that_breaks_the_bound_is_neither_saved_nor_loaded(tmp_path, damage, words):
    codec, config = untrained_codec(), tiny_config()
    file = tmp_path / MODEL_FILE
    save_checkpoint(file, codec, config, 0)
    damage(codec.entropy)
    with pytest.raises(CheckpointError, match=words) as refusal:
        save_checkpoint(tmp_path / "new" / MODEL_FILE, codec, config, 0)
    assert not (tmp_path / "new").exists() and "\n" not in str(refusal.value)

    loaded = load_checkpoint(file).codec
    tensors, state = load_file(file), codec.state_dict()
    for name, tensor in tensors.items():
        tensors[name] = state[name].contiguous() if "_int" in name or "medians" in name else tensor
    with safe_open(file, "pt") as handle:
        save_file(tensors, file, handle.metadata())
    with pytest.raises(CheckpointError, match=words) as refusal:
        load_checkpoint(file)
    assert "\n" not in str(refusal.value)
    assert loaded.entropy.identity() != codec.entropy.identity()


def test_weights_that_break_the_bound_cannot_be_frozen_for_saving() -> None:
    """As training meets it: the float weights have grown, and the save that freezes them is refused."""
    entropy = frozen()
    with torch.no_grad():
        entropy.h_s.convolutions()[2].weight.fill_(2**19)
    with pytest.raises(CheckpointError, match="layer 2"):
        entropy.freeze()
    entropy = fresh()
    with torch.no_grad():
        entropy.prior.quantiles[0] = 2**20 / 256 - 127
    with pytest.raises(CheckpointError, match="medians of z"):
        entropy.freeze()
    entropy = fresh()
    with torch.no_grad():
        entropy.prior.quantiles[0] = float("nan")
    with pytest.raises(CheckpointError, match="medians of z are not finite"):
        entropy.freeze()
