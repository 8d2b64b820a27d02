"""The context models of the study: they begin as the plain hyperprior, look only back, and are the same in integers."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from evaluation_files import write_checkpoint, write_split
from tiny import smooth_pair, tiny_config, untrained_codec
from torch import Tensor

from config import LossConfig
from modules.diffusion_codec import DiffusionCodec
from utils import context_training
from utils.context_study import ContextModel, Design, Latents, channel_bits
from utils.context_training import Settings, analyse, fit, joined, latents_of_size, measure
from utils.errors import ConfigError

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "study_context.py"

COUNT = 12
"""Of the 16 channels of y, those that take part."""
DESIGNS = [
    Design(),
    Design(kernel=3),
    Design(kernel=5, slices=2),
    Design(slices=3, window=3),
    Design(kernel=3, slices=2, window=3, into_output=True),
]


def codec() -> DiffusionCodec:
    """With latents of many different symbols."""
    made = untrained_codec()
    assert isinstance(made, DiffusionCodec)
    with torch.no_grad():
        for parameter in made.entropy.h_a.parameters():
            parameter.mul_(3)
    made.freeze()
    return made.eval()


def latents(made: DiffusionCodec) -> Latents:
    """Two images of 64x128."""
    x = torch.stack([smooth_pair(64, 128, seed)[0] for seed in range(2)])
    found = analyse(made, x, torch.tensor([90, 200]))
    return Latents(3 * found.y, found.z_hat, found.level)


def lively(design: Design) -> tuple[ContextModel, Latents]:
    """A context model with random context, and latents for it."""
    made = codec()
    found = latents(made)
    model = ContextModel(made.entropy.h_s, design, channel_bits(made.entropy.h_s, found), COUNT, 256)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.context():
            parameter.normal_(0, 0.1)
    model.freeze()
    return model, found


def test_latents_are_those_that_files_carry() -> None:
    made = codec()
    x, _ = smooth_pair(64, 128)
    size = len(made.compress(x, 0.5))
    found, files = latents_of_size(made, [x], size)
    rate = int(found.level) / 255
    assert 0 < rate <= 0.502 and files == [len(made.compress(x, rate))] and files[0] >= size
    coded = made.code(x, rate)
    plain = ContextModel(made.entropy.h_s, Design(), torch.arange(16, 0, -1), COUNT, 256)
    symbols = torch.cat([part.symbols for part in plain.passes(found)], 1)[:, :, 0].unflatten(2, (4, 8))
    assert coded.y_symbols is not None and (symbols == coded.y_symbols).float().mean() > 0.99


@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_begins_as_the_plain_hyperprior(design: Design) -> None:
    made = codec()
    found = latents(made)
    bits = channel_bits(made.entropy.h_s, found)
    model = ContextModel(made.entropy.h_s, design, bits, COUNT, 256)
    with torch.no_grad():
        mean, index = made.entropy.h_s(found.z_hat, found.level).chunk(2, 1)
        for part in model.passes(found):
            for name, whole in (("mean", mean), ("index", index)):
                expected = whole.flatten(2)[:, part.channels][..., part.places]
                torch.testing.assert_close(getattr(part, name)[:, :, 0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("design", DESIGNS)
def test_every_symbol_is_coded_once(design: Design) -> None:
    model, found = lively(design)
    coded = torch.zeros(found.y[0].flatten(1).shape)
    for part in model.passes(found):
        coded[part.channels[:, None], part.places] += 1
    assert bool((coded == 1).all())
    channels = torch.cat([part.channels for part in model.passes(found, everything=False)])
    assert len(channels.unique()) == COUNT


@pytest.mark.parametrize("design", DESIGNS)
def test_parameters_depend_on_earlier_passes_alone(design: Design) -> None:
    """A receiver has nothing else. And they do depend on them, or there would be no context."""
    model, found = lively(design)
    parts = list(model.passes(found))
    taking_part = len(list(model.passes(found, everything=False)))
    for number, part in enumerate(parts):
        changed = found.y.clone()
        flat = changed.flatten(2)
        flat[:, part.channels[:, None], part.places] += 7
        again = list(model.passes(Latents(flat.view_as(changed), found.z_hat, found.level)))
        for before, after in zip(parts[: number + 1], again, strict=False):
            assert torch.equal(before.mean, after.mean) and torch.equal(before.index, after.index)
        if number + 1 < taking_part:
            assert any(not torch.equal(parts[i].mean, again[i].mean) for i in range(number + 1, taking_part))


@pytest.mark.parametrize("design", DESIGNS)
def test_integers_are_near_the_floats_and_exact(design: Design) -> None:
    model, found = lively(design)
    with torch.no_grad():
        exact, near = model(found, exact=True), model(found)
    torch.testing.assert_close(exact, near.to(exact.dtype), rtol=0.02, atol=0)
    for part in model.passes(found, exact=True):
        for values in (part.mean, part.index):
            assert values.dtype == torch.float64 and torch.equal(values * 256, (values * 256).round())


def test_a_context_that_helps_is_learnt_and_training_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each channel of y is one number all over the image, which z_hat does not know and every neighbour tells."""
    monkeypatch.setattr(context_training, "SAVE_EVERY", 25)
    made = codec()
    found = joined([latents(made)] * 8)
    y = 4 * torch.randn(16, 16, 1, 1, generator=torch.Generator().manual_seed(0))
    train = Latents(y.expand(-1, -1, 4, 8).contiguous(), found.z_hat, found.level)

    def trained(design: Design) -> tuple[float, list[Tensor]]:
        model = ContextModel(made.entropy.h_s, design, torch.ones(16), COUNT, 256)
        fit(model, train, LossConfig(), Settings(40, 2e-3, 2e-2), tmp_path / str(design.kernel))
        return sum(measure(model, {"all": train})["all"]), [parameter.detach() for parameter in model.parameters()]

    context, once = trained(Design(kernel=3))
    assert context < 0.9 * trained(Design())[0]
    _, again = trained(Design(kernel=3))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Runs the script on a tiny checkpoint with more options; the report."""
    for split in ("train", "val"):
        write_split(tmp_path / "data", split, ["a", "a", "b"])
    ckpt = write_checkpoint(tmp_path / "ckpt", codec(), tiny_config(), tmp_path / "data")

    def run(options: str) -> str:
        command = f"{SCRIPT} --ckpt {ckpt} --data-root {tmp_path / 'data'} --work {tmp_path / 'work'} --crops 16"
        monkeypatch.setattr(
            sys, "argv", f"{command} --channels 8 --threads 1 --out {tmp_path / 'out.md'} {options}".split()
        )
        runpy.run_path(str(SCRIPT))["main"]()
        return (tmp_path / "out.md").read_text()

    return run


def test_the_study_reports_each_design_beside_the_control_and_continues(
    study: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.context_study.DESIGNS", {"plain": Design(), "slices": Design(slices=2)})

    def rows(report: str) -> list[list[str]]:
        return [[cell.strip() for cell in line.split("|")] for line in report.splitlines() if line.startswith("| ")]

    table = rows(study("--steps 2 --bytes 40 60"))
    assert [row[1] for row in table[2:]] == ["the checkpoint", "plain", "slices"]
    assert all("%" in cell for cell in table[4][5:7]) and "%" not in "".join(table[3])
    monkeypatch.setattr(context_training, "fit", lambda *_: pytest.fail("trained again"))
    again = rows(study("--steps 2 --bytes 40 60"))
    assert [row[5:] for row in again] == [row[5:] for row in table]
    with pytest.raises(ConfigError, match="choose another --work"):
        study("--steps 2 --bytes 40")


def test_the_study_says_what_it_cannot_do(study: Callable[[str], str]) -> None:
    for options, words in (("--designs other", "no design 'other'"), ("--crops 9", "--crops is 9"),
                           ("--channels 17", "--channels is 17")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            study(options)
