"""Published codecs without diffusion: their sizes, and what is each one's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import batch_of_pairs, smooth_pair
from tiny_methods import tiny_method
from torch import Tensor

from config import Config
from modules.codec import Codec, build_codec
from modules.factorized import Factorized
from modules.noise import Draws
from modules.published.causal import CausalContext
from modules.published.causal_network import CausalNetwork, wavefronts
from modules.published.checkerboard import Checkerboard
from modules.published.codebook import Codebook
from modules.published.dsin import synthetic
from modules.published.index_prior import PredictedCodebook
from modules.published.layers import GDN
from modules.published.ndic import NDIC
from modules.published.ndic_cam import maps, tokens
from utils.checkpoint import save_checkpoint
from utils.configio import preset_named
from utils.errors import BitstreamError, CheckpointError
from utils.evaluation.plan import describe_models

X, X_SIDE = batch_of_pairs(2)
CAM_WITHOUT_EFFECT = 3 * 1_572_864 + 14_403 + 2 * 8_256
"""Of the released CAM: half of three pairs of projections, a last layer and two priors that no loss reaches."""


def draws(count: int = 2) -> Draws:
    return Draws([Draws.key(0, i) for i in range(count)])


def fresh(preset: str) -> Codec:
    torch.manual_seed(0)
    codec = build_codec(tiny_method(preset))
    codec.freeze()
    return codec.eval()


@pytest.mark.parametrize(
    ("preset", "published"),
    [
        ("ndic_bls17", 16_323_270),
        ("ndic_bmshj18", 25_025_094),
        ("ndic_cam", 29_711_526 - CAM_WITHOUT_EFFECT),
        ("ldmic", 20_309_219),
        ("dsin", 10_115_759),
        ("ndsc", 2_583_907),
    ],
)
def test_parameter_counts_are_the_published_ones(preset: str, published: int) -> None:
    with torch.device("meta"):
        codec = build_codec(preset_named(preset))
    assert sum(p.numel() for p in codec.parameters()) == pytest.approx(published, rel=0.01)


def changed(preset: str, part: str, **fields: object) -> Config:
    config = tiny_method(preset)
    return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **fields)})


# ---------------------------------------------------------------- layers


def test_gdn_is_its_equation_and_the_inverse_multiplies() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 6)
    gdn = GDN(4)
    torch.testing.assert_close(gdn(x), x / (1 + 0.1 * x**2).sqrt())
    with torch.no_grad():
        gdn.gamma.copy_(torch.rand(4, 4))
    norm = (1 + torch.einsum("ij,bjhw->bihw", gdn.gamma**2, x**2)).sqrt()
    torch.testing.assert_close(gdn(x), x / norm)
    gdn.inverse = True
    torch.testing.assert_close(gdn(x), x * norm)


def test_gdn_can_leave_its_bound() -> None:
    """Gammas off the diagonal begin at their bound."""
    gdn = GDN(3)
    (gdn(torch.rand(1, 3, 4, 4) + 1).sum()).backward()
    assert (gdn.gamma.grad != 0).all()


# ---------------------------------------------------------------- entropy models


def factorized(levels: int) -> Factorized:
    torch.manual_seed(0)
    model = Factorized(3, levels, gains=(0.5, 4.0))
    with torch.no_grad():
        model.prior.quantiles[:, 0, 1] = torch.tensor([0.3, -1.2, 5.0])
    model.freeze()
    return model


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_factorized_latent_is_off_by_half_a_step_of_its_rate(level: int) -> None:
    model = factorized(256)
    y = 4 * torch.randn(1, 3, 6, 7)
    coded = model(y, torch.tensor([level]))
    gain = model.gain(torch.tensor([level]))
    assert ((coded.y_hat - y).abs() * gain).max() <= 0.5 + 1e-3
    assert torch.equal(model.decode(model.encode(coded), (6, 7), level), coded.y_hat)


def test_factorized_tables_are_the_density_of_y() -> None:
    """Training prices y with noise by the density from which the tables are made."""
    model = factorized(256)
    y = 4 * torch.randn(4, 3, 32, 32)
    for level in (0, 128, 255):
        levels = torch.full((4,), level)
        noisy, coded = model(y, levels, draws(4)).bits.detach().mean(), model(y, levels).bits.mean()
        assert float(noisy) == pytest.approx(float(coded), rel=0.02)


def test_damaged_tables_are_found() -> None:
    model = factorized(1)
    model.frequencies[0, 0] += 1
    with pytest.raises(CheckpointError, match="tables are damaged"):
        model.tables()


def test_anchors_are_predicted_without_context_and_the_others_from_them() -> None:
    codec = fresh("ldmic")
    assert isinstance(codec.entropy, Checkerboard)
    h_s = codec.entropy.h_s
    torch.manual_seed(1)
    features, zero = torch.randn(1, 16, 8, 8), torch.zeros(1, 8, 8, 8)
    anchor = (torch.arange(8)[:, None] + torch.arange(8)) % 2 == 0
    level = torch.zeros(1, dtype=torch.int64)
    without = h_s.combine(features, zero, level)
    with_context = h_s.combine(features, torch.randn(1, 8, 8, 8) * anchor, level)
    assert torch.equal(without[..., anchor], with_context[..., anchor])
    assert not torch.equal(without[..., ~anchor], with_context[..., ~anchor])


def test_integers_of_the_context_model_are_its_floats() -> None:
    codec = fresh("dsin")
    model = codec.entropy
    assert isinstance(model, CausalContext)
    with torch.no_grad():
        for layer in model.context.layers():
            layer.bias.uniform_(-0.2, 0.2)
    model.freeze()
    model.thaw()
    index = torch.randint(0, 6, (1, 4, 6, 7))
    floats = model.context((model.centres[index] - model.centres[0]).detach()[:, :, None])
    exact = model.context(model._inputs()[index].movedim(-1, 2), exact=True) / 256
    assert floats.std() > 0.05 and (floats - exact).abs().max() < 0.02


@pytest.mark.parametrize("depth", [1, 4])
def test_a_symbol_is_predicted_from_earlier_wavefronts_alone(depth: int) -> None:
    torch.manual_seed(0)
    model = CausalNetwork(1, 8, 6, depth)
    shape = (depth, 5, 6)
    fronts = wavefronts(*shape)
    assert sorted(torch.cat([torch.from_numpy(f) for f in fronts]).tolist()) == list(range(depth * 5 * 6))
    z = torch.randn(1, *shape, requires_grad=True)
    for number in (0, 7, len(fronts) - 1):
        z.grad = None
        logits = model(z[:, :, None]).movedim(2, -1).reshape(-1, 6)
        logits[torch.from_numpy(fronts[number])].square().sum().backward()
        seen = set(torch.nonzero(z.grad.flatten())[:, 0].tolist())
        assert seen <= {position for front in fronts[:number] for position in front}
    assert seen, "the last front sees some of what came before"


def test_frequencies_are_positive_and_complete() -> None:
    model = CausalNetwork(1, 8, 6)
    model.freeze()
    logits = torch.tensor([[0.0, 0, 0, 0, 0, 0], [-(2.0**20), 2.0**20 - 1, 0, 5, 5, 5], [256.0, 0, 0, 0, 0, 0]])
    frequencies = model.frequencies(logits.double())
    assert (frequencies >= 1).all() and (frequencies.sum(1) == 2**22).all()
    expected = F.softmax(logits[2] / 256, dim=0)
    torch.testing.assert_close(frequencies[2] / 2**22, expected.double(), atol=1e-4, rtol=0, check_dtype=False)


def test_indices_take_their_bits_and_nothing_else_is_accepted() -> None:
    torch.manual_seed(0)
    model = Codebook(3, bits=5)
    model.freeze()
    coded = model(torch.randn(1, 3, 3, 5), torch.zeros(1, dtype=torch.int64))
    payload = model.encode(coded)
    assert float(coded.bits) == 75 and len(payload) == 10
    assert torch.equal(model.decode(payload, (3, 5), 0), coded.y_hat)
    with pytest.raises(BitstreamError, match="zeros at its end"):
        model.decode(payload[:-1] + bytes([payload[-1] | 1]), (3, 5), 0)


def test_a_codebook_finds_its_latents() -> None:
    torch.manual_seed(0)
    model = Codebook(2, bits=4).train()
    centres = 10 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    for step in range(60):
        y = centres[torch.randint(0, 4, (2, 4, 4))].movedim(-1, 1) + 0.1 * torch.randn(2, 2, 4, 4)
        coded = model(y.requires_grad_(), torch.zeros(2, dtype=torch.int64), Draws([2 * step, 2 * step + 1]))
    assert torch.cdist(centres, model.vectors).amin(1).max() < 0.5
    coded.y_hat.sum().backward()
    assert torch.equal(y.grad, torch.ones_like(y)), "straight through"
    before = model.vectors.clone()
    model(y.detach(), torch.zeros(2, dtype=torch.int64), draws())
    assert torch.equal(model.vectors, before), "a sender that rests keeps its codebook"


def test_predicted_indices_cost_less_than_their_number_where_they_follow_from_others() -> None:
    """Indices that repeat along a row; the codec gets no gradient from their bits."""
    torch.manual_seed(0)
    model = PredictedCodebook(3, bits=4).train()
    model.vectors.copy_(3 * torch.randn(16, 3))
    index = torch.randint(0, 16, (2, 8, 1), generator=torch.Generator().manual_seed(0)).expand(2, 8, 16)
    y = model.vectors[index].permute(0, 3, 1, 2).clone().requires_grad_()
    level = torch.zeros(2, dtype=torch.int64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.eval()
    for _ in range(60):
        bits = model(y, level, draws()).bits
        optimizer.zero_grad()
        bits.sum().backward()
        optimizer.step()
    assert y.grad is None or not y.grad.any()
    model.freeze()
    with torch.no_grad():
        coded = model(y[:1], level[:1])
    payload = model.encode(coded)
    assert torch.equal(model.decode(payload, (8, 16), 0), coded.y_hat)
    assert len(payload) < 0.5 * 4 * 128 / 8
    with pytest.raises(BitstreamError):
        model.decode(payload + bytes(9), (8, 16), 0)


# ---------------------------------------------------------------- methods


def test_what_ndic_never_sends_is_not_in_the_rate() -> None:
    for preset in ("ndic_bls17", "ndic_bmshj18"):
        codec = build_codec(tiny_method(preset))
        assert isinstance(codec, NDIC)
        output = codec(X, X_SIDE, draws())
        assert torch.equal(output.bits, codec(X, 1 - X_SIDE, draws()).bits)
        assert [torch.equal(task.x, image) for task, image in zip(output.tasks, (X, X_SIDE), strict=True)] == [True] * 2
        output.aux.backward()
        reached = {name.split(".")[0] for name, p in codec.named_parameters() if p.grad is not None and p.grad.any()}
        assert reached == {"entropy", "e_side", "side_task"}
        assert codec.entropy.prior.quantiles.grad.any() and codec.g_a[0].weight.grad is None


def test_w_is_noisy_in_training_alone() -> None:
    codec = fresh("ndic_bls17")
    assert isinstance(codec, NDIC)
    with torch.no_grad():
        output = codec(X, X_SIDE, draws())
        clean = codec.reconstruct(output.y_hat, X_SIDE)
    assert not torch.equal(output.tasks[0].x_hat, clean)


def test_patches_are_found_where_they_are() -> None:
    """The side image shows the same, 6 pixels to the left; only the edge of the image has no counterpart."""
    scene = torch.rand(3, 64, 102, generator=torch.Generator().manual_seed(0))
    x, side = scene[None, :, :, :96], scene[None, :, :, 6:]
    found = synthetic(x, side, side)
    assert torch.equal(found[..., 32:], x[..., 32:])
    assert not torch.equal(found[..., :32], x[..., :32])


def test_patches_come_from_the_original_side_image() -> None:
    x, side = (image[None] for image in smooth_pair(64, 64))
    assert torch.equal(synthetic(x, side, 0 * side), torch.zeros_like(x))


def test_dsin_weighs_both_of_its_images() -> None:
    tasks = build_codec(tiny_method("dsin"))(X, X_SIDE, draws()).tasks
    assert [round(float(task.weight[0]), 2) for task in tasks] == [0.3, 0.7]


def test_a_token_is_a_channel_of_a_cell() -> None:
    features = torch.arange(2 * 3 * 8 * 16.0).view(2, 3, 8, 16)
    split = tokens(features)
    assert split.shape == (2, 48, 8)
    assert torch.equal(split[0, 1], features[0, 1, :2, :4].flatten()), "channel 1 of the first cell"
    assert torch.equal(maps(split, features.shape[2:]), features)


def test_ldmic_uses_one_encoder_for_both_views() -> None:
    codec = build_codec(tiny_method("ldmic"))
    task = codec(X, X_SIDE, draws()).tasks[0]
    x_side = X_SIDE.clone().requires_grad_()
    gradient: Tensor = torch.autograd.grad(codec.reconstruct(torch.zeros(2, 8, 4, 4), x_side).sum(), x_side)[0]
    assert gradient.any() and torch.equal(task.x, X)


def test_ndsc_models_of_several_codebooks_are_one_curve(tmp_path: Path) -> None:
    paths = []
    for bits, halvings in ((5, 3), (3, 3), (2, 2)):
        config = changed("ndsc", "model", bits=bits, halvings=halvings)
        codec = build_codec(config)
        codec.freeze()
        paths.append(str(tmp_path / f"{bits}_{halvings}.safetensors"))
        save_checkpoint(Path(paths[-1]), codec, config, 1)
    models = describe_models(paths)
    assert [model.label for model in models] == ["ndsc"] * 3
    assert models[1].place < models[0].place < models[2].place, "3/64, 5/64 and 2/16 bpp"
