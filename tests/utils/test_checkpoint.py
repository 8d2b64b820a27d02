"""Checkpoints: one file rebuilds the codec exactly, anything else is one sentence, and nothing is unpickled."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from checkpoint_files import metadata, rewrite
from safetensors.torch import load_file
from sentences import sentence
from tiny import smooth_pair, tiny_config
from torch import Tensor, nn

from config import Config
from modules.bitstream import unpack
from modules.codec import Codec, build_codec
from utils.checkpoint import MODEL_FILE, find_model_file, initialise, load_checkpoint, save_checkpoint
from utils.errors import CheckpointError
from utils.training.checkpoints import load_training_state, save_training_state


def assert_refused(path: Path, words: str) -> None:
    """By one sentence with these words."""
    assert re.search(words, sentence(lambda: load_checkpoint(path), CheckpointError))


def test_the_file_alone_rebuilds_the_model(tiny: Config, tiny_codec: Codec, file: Path) -> None:
    """Same entropy model to the bit, so files are read alike; same pixels up to the float16 of the other weights."""
    loaded = load_checkpoint(file)
    assert loaded.config == tiny and loaded.step == 80 and loaded.path == file
    assert not loaded.codec.training
    assert loaded.codec.entropy.identity() == tiny_codec.entropy.identity()
    x, x_side = smooth_pair(64, 128, seed=2)
    for rate in (0.0, 0.5, 1.0):
        data = tiny_codec.compress(x, rate)
        stream = unpack(data, loaded.codec.entropy.identity())
        own, other = (c.entropy.decode(stream.payload, (1, 2), stream.level) for c in (tiny_codec, loaded.codec))
        assert torch.equal(own, other) and torch.equal(own, tiny_codec.code(x, rate).y_hat)
        a, b = (codec.decompress(data, x_side) for codec in (tiny_codec, loaded.codec))
        assert (a - b).abs().max() < 2e-3
        assert loaded.codec.decompress(loaded.codec.compress(x, rate), x_side).shape == x.shape


def test_saving_what_was_loaded_changes_nothing(tiny: Config, file: Path, tmp_path: Path) -> None:
    """Rounding to float16 happens once: further copies are the same file, tensor by tensor and pixel by pixel."""
    first = load_checkpoint(file)
    copy = tmp_path / "copy" / MODEL_FILE
    save_checkpoint(copy, first.codec, first.config, first.step)
    before, after = load_file(file), load_file(copy)
    assert metadata(copy) == metadata(file) and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    second = load_checkpoint(copy).codec
    x, x_side = smooth_pair()
    data = first.codec.compress(x, 0.5)
    assert second.compress(x, 0.5) == data
    assert torch.equal(second.decompress(data, x_side), first.codec.decompress(data, x_side))


def test_what_is_stored(file: Path, tiny_codec: Codec) -> None:
    """Integers for what the coder depends on, float16 for the rest, no float twins of the integers."""
    tensors = load_file(file)
    assert metadata(file).keys() == {"format", "step", "config"}
    for name, tensor in tensors.items():
        if any(part in name for part in ("_int", "frequencies", "medians", "inverse_gain", "_offset", "_cdf")):
            assert tensor.dtype in (torch.int16, torch.int32), name
        elif name.endswith("frozen"):
            assert tensor.dtype == torch.bool
        elif name.startswith("entropy.prior.") or name.endswith(("log_gain", ".bound")):
            assert tensor.dtype == torch.float32, name
        else:
            assert tensor.dtype == torch.float16, name
    assert tensors["entropy.z_frequencies"].dtype == torch.int32
    assert tensors["entropy.h_s.layers.0.weight_int"].dtype == torch.int16
    assert "entropy.h_s.layers.0.weight" not in tensors
    weights = sum(p.numel() for p in tiny_codec.parameters())
    tables = sum(t.numel() * t.element_size() for n, t in tensors.items() if "frequencies" in n or "gain" in n)
    assert file.stat().st_size < 2.2 * weights + tables + 60_000


def test_mistake_03_the_perceptual_network_is_not_saved(tiny: Config, tmp_path: Path) -> None:
    """It is no part of the codec; and a codec that holds a frozen network saves none of it either."""
    from modules.pretrained.frozen import freeze

    codec = build_codec(tiny)
    codec.freeze()
    clean = tmp_path / "a" / MODEL_FILE
    save_checkpoint(clean, codec, tiny, 0)
    codec.critic = freeze(nn.Conv2d(3, 64, 3))
    held = tmp_path / "b" / MODEL_FILE
    save_checkpoint(held, codec, tiny, 0)
    assert load_file(held).keys() == load_file(clean).keys()


def test_mistake_11_a_wrong_checkpoint_never_loads_in_silence(file: Path) -> None:
    """Missing, unknown, mis-shaped, mistyped and non-finite weights: each one is an error of one sentence."""
    good = file.read_bytes()
    name = "unet.stem.weight"

    def alter(words: str, change: Callable[[dict[str, Tensor]], Any]) -> None:
        file.write_bytes(good)
        rewrite(file, lambda tensors, _: change(tensors))
        assert_refused(file, words)

    alter(f"lacks {name}", lambda t: t.pop(name))
    alter("lacks entropy.z_frequencies", lambda t: t.pop("entropy.z_frequencies"))
    alter("unknown weights unet.extra", lambda t: t.update({"unet.extra": torch.zeros(1)}))
    alter(rf"has {name} as .*but its configuration needs", lambda t: t.update({name: t[name][:-1]}))
    alter(rf"has {name} as", lambda t: t.update({name: t[name].to(torch.int32)}))
    alter("z_medians as", lambda t: t.update({"entropy.z_medians": t["entropy.z_medians"].to(torch.int64)}))
    alter("not finite", lambda t: t[name].view(-1)[3].fill_(float("nan")))
    alter("not finite", lambda t: t[name].view(-1)[3].fill_(float("inf")))
    alter("probability tables", lambda t: t["entropy.y_frequencies"][2].view(-1)[0].add_(1))
    alter("gain table", lambda t: t["entropy.inverse_gain"].view(-1)[0].zero_())
    alter("never frozen", lambda t: t["entropy.frozen"].fill_(False))


def test_files_that_are_no_checkpoint_and_files_cut_short(file: Path) -> None:
    data = file.read_bytes()
    cut = [data[:length] for length in (0, 4, 8, 100, len(data) // 2, len(data) - 1)]
    pickled = pickle.dumps({"state_dict": [1, 2, 3]})
    for content in (*cut, b"\x89PNG\r\n\x1a\n" + bytes(100), pickled, b"\xff" * 5000):
        file.write_bytes(content)
        assert_refused(file, "no readable safetensors")


def test_files_without_our_metadata(file: Path) -> None:
    good = file.read_bytes()

    def alter(words: str, change: Callable[[dict[str, str]], Any]) -> None:
        file.write_bytes(good)
        rewrite(file, lambda _, data: change(data))
        assert_refused(file, words)

    alter("format None", lambda d: d.pop("format"))
    alter("format 2, but this version reads format 1", lambda d: d.update(format="2"))
    alter("configuration", lambda d: d.pop("config"))
    alter("configuration", lambda d: d.update(config="{"))
    alter("configuration", lambda d: d.update(step="many"))
    alter("not a field of this version", lambda d: d.update(config=d["config"].replace('"latent"', '"latnet"')))
    alter("must be of type int", lambda d: d.update(config=d["config"].replace('"latent": 16', '"latent": "16"')))


def test_nothing_is_unpickled(file: Path, tmp_path: Path) -> None:
    """Not the checkpoint, not the training state: a file from the internet can run no code here."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("something was unpickled")

    codec = load_checkpoint(file).codec
    optimizer = torch.optim.Adam(codec.parameters())
    save_training_state(tmp_path, 3, {"model": codec, "ema": codec}, {"optimizer": optimizer}, {"best": 1.0})
    with (
        patch("torch.load", forbidden),
        patch("pickle.load", forbidden),
        patch("pickle.loads", forbidden),
        patch("pickle.Unpickler", forbidden),
    ):
        load_checkpoint(file)
        assert load_training_state(tmp_path, {"model": codec, "ema": codec}, {"optimizer": optimizer}) == (
            3,
            {"best": 1.0},
        )


def test_weights_that_cannot_be_stored_are_refused(tiny: Config, own_codec: Codec, tmp_path: Path) -> None:
    """Nothing is written, and a checkpoint that was there stays."""
    path = tmp_path / MODEL_FILE
    path.write_bytes(b"before")
    for value in (float("nan"), 1e6):
        with torch.no_grad():
            own_codec.unet.stem.weight[0, 0, 0, 0] = value  # type: ignore[union-attr, index]
        with pytest.raises(CheckpointError, match=r"unet\.stem\.weight are not finite or too large"):
            save_checkpoint(path, own_codec, tiny, 0)
        assert path.read_bytes() == b"before"
    assert [f.name for f in tmp_path.iterdir()] == [MODEL_FILE]


def test_a_run_a_folder_or_the_file(file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def put(name: str) -> Path:
        target = run / "checkpoints" / name / MODEL_FILE
        target.parent.mkdir(parents=True)
        target.write_bytes(file.read_bytes())
        return target

    early, late, half = put("step_00000500"), put("step_00001000"), put("step_00001500.tmp")
    assert find_model_file(run) == late and half.is_file()
    assert find_model_file(early.parent) == early == find_model_file(early)
    best = put("best")
    assert find_model_file(str(run)) == best
    for path, words in ((tmp_path / "none", "no checkpoint at"), (tmp_path, f"holds no {MODEL_FILE}")):
        with pytest.raises(CheckpointError, match=words):
            find_model_file(path)


def test_initialise_needs_the_same_architecture(file: Path) -> None:
    codec = build_codec(tiny_config(train={"lr": 1.0}))
    initialise(codec, file)
    assert torch.equal(codec.unet.stem.weight, load_checkpoint(file).codec.unet.stem.weight)  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="another architecture"):
        initialise(build_codec(tiny_config(model={"latent": 24})), file)


def test_a_training_state_of_another_configuration_is_refused(tiny_codec: Codec, tmp_path: Path) -> None:
    optimizer = torch.optim.Adam(tiny_codec.parameters())
    save_training_state(tmp_path, 3, {"model": tiny_codec, "ema": tiny_codec}, {"optimizer": optimizer}, {})
    other = build_codec(tiny_config(model={"latent": 24}))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_training_state(
            tmp_path, {"model": other, "ema": other}, {"optimizer": torch.optim.Adam(other.parameters())}
        )
