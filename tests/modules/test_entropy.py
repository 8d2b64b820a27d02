"""The entropy model: gradients where they are needed, estimates that files keep, integers that decide everything."""

from unittest.mock import patch

import pytest
import torch
from entropy_models import LATENT, fresh, frozen, latent
from float32_device import DEVICE, Float32Device
from torch import Tensor

from modules.codec import Codec
from modules.entropy import Coded, Hyperprior
from modules.likelihoods import (
    LIKELIHOOD_BOUND,
    SCALE_MAX,
    SCALE_MIN,
    SCALES,
    Y_LIMIT,
    FactorizedPrior,
    gaussian_likelihood,
)
from modules.noise import Draws
from utils.errors import BitstreamError


def noisy(entropy: Hyperprior, y: Tensor, level: int = 128) -> Coded:
    return entropy(y, torch.full((len(y),), level), Draws(list(range(len(y)))))


def test_mistake_01_every_scale_has_a_gradient_at_initialisation() -> None:
    """A clamped scale would start with a gradient of exactly zero and never move."""
    entropy = fresh()
    noisy(entropy, latent()).bits.sum().backward()
    bias = entropy.h_s.convolutions()[-1].bias
    assert bias.grad is not None
    used = bias.grad[128 // 16, LATENT:]
    assert (used != 0).all()


def test_mistake_01_a_scale_at_its_lower_bound_can_grow() -> None:
    """Indices far below 0 give the smallest scale; wide latents must still pull them up, through the bound."""
    entropy = fresh(levels=1)
    with torch.no_grad():
        entropy.h_s.convolutions()[-1].bias[:, LATENT:] = -50.0
    y = latent(spread=1.0).requires_grad_()
    noisy(entropy, y, 0).bits.sum().backward()
    bias = entropy.h_s.convolutions()[-1].bias
    assert bias.grad is not None and (bias.grad[:, LATENT:] < 0).all()  # Gradient descent raises the index.


def test_bits_reach_every_part_of_the_entropy_model() -> None:
    entropy = fresh()
    with torch.no_grad():
        entropy.h_a.layers[-1].weight.mul_(20)  # type: ignore[index, union-attr]
    coded = noisy(entropy, latent())
    (coded.bits.sum() + coded.y_hat.sum() + entropy.prior.loss()).backward()
    without = [name for name, p in entropy.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_mistake_04_bits_are_those_of_y_and_z_and_of_nothing_else() -> None:
    """Without the cost of one, what is left is the other's, in training and in evaluation."""
    entropy = frozen()
    y, level = latent(1), torch.tensor([128])

    for draws in (Draws([0]), None):
        total = entropy(y, level, draws).bits
        with patch.object(entropy.prior, "values_likelihood", lambda values: torch.ones_like(values)):
            of_y = entropy(y, level, draws).bits
        with patch("modules.entropy.gaussian_likelihood", lambda residual, scale: torch.ones_like(residual)):
            of_z = entropy(y, level, draws).bits
        assert of_y > 10 and of_z > 10
        torch.testing.assert_close(total, of_y + of_z)


def test_likelihoods_are_a_distribution() -> None:
    symbols = torch.arange(-2000, 2001, dtype=torch.float64)
    for scale in (SCALE_MIN, 1.0, SCALE_MAX):
        mass = gaussian_likelihood(symbols, torch.tensor(scale, dtype=torch.float64))
        assert float(mass.sum()) == pytest.approx(1, abs=1e-9)
    values = torch.arange(-500, 501).float()[None, None, None].expand(1, 8, 1, -1)
    mass = fresh().prior.values_likelihood(values).sum(-1)
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-3)


def test_training_and_deployment_agree() -> None:
    """The noisy estimate is near the exact one, and y_hat is the same up to the fixed-point mean."""
    entropy = frozen()
    y = latent(batch=1, size=16)
    for level in (0, 128, 255):
        with torch.no_grad():
            trained = torch.stack([entropy(y, torch.tensor([level]), Draws([i])).bits for i in range(8)]).mean()
        coded = entropy(y, torch.tensor([level]))
        assert float(trained) == pytest.approx(float(coded.bits), rel=0.05)
        y_hat = noisy(entropy, y, level).y_hat
        same = ((y_hat - coded.y_hat).abs() < 0.02).float().mean()
        assert same > 0.97  # The others lay on a rounding boundary.
        step = 1 / entropy.gain(torch.tensor([level]))
        assert ((y_hat - coded.y_hat).abs() < 1.1 * step).all()


def test_the_mean_is_of_y_times_gain() -> None:
    """With symbols of zero y_hat is the mean over the gain."""
    entropy = frozen()
    mean, zero = torch.full((1, LATENT, 2, 2), 300.0, dtype=torch.float64), torch.zeros(1, LATENT, 2, 2)
    for number in (0, 255):
        level = torch.tensor([number])
        expected = 300 / 256 / entropy.gain(level).detach()
        torch.testing.assert_close(entropy._dequantise(zero, mean, level), expected + torch.zeros(1, LATENT, 2, 2))
        y = latent(1, 8)
        coded = entropy(y, level)
        assert float((coded.y_hat - y).abs().max()) <= 0.51 / float(entropy.gain(level).detach().min())


def test_decoding_gives_the_encoders_y_hat_exactly() -> None:
    entropy = frozen()
    for level in (0, 37, 255):
        coded = entropy(latent(1, 8), torch.tensor([level]))
        decoded = entropy.decode(entropy.encode(coded), (2, 2), level)
        assert decoded.dtype == torch.float32 and torch.equal(decoded, coded.y_hat)


def test_files_need_no_estimate_and_its_context_does_not_matter() -> None:
    """Bits are estimated when they are first asked for, once, with the autocast and gradients of the entropy model."""
    entropy = frozen()
    y, level = latent(1, 8), torch.tensor([37])
    expected = entropy(y, level).bits
    coded = entropy(y, level)
    with patch.object(entropy, "_estimate", side_effect=AssertionError("estimated")):
        assert entropy.encode(coded) and coded.y_hat.shape == y.shape
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bits = coded.bits
    assert torch.equal(bits, expected) and not bits.requires_grad and coded.bits is bits


def test_the_factorized_table_is_the_density(tiny_codec: Codec) -> None:
    entropy = tiny_codec.entropy
    medians = entropy.z_medians.float() / 256
    values = (medians[:, None] + torch.arange(-10, 11)[None]).view(1, 8, 1, 21)
    density = entropy.prior.values_likelihood(values)[0, :, 0]
    table = entropy.z_frequencies[:, 127 - 10 : 127 + 11] / 2**22
    assert (density - table).abs().max() < 1e-3


def test_scale_tables_are_gaussians() -> None:
    entropy = frozen()
    symbols = torch.arange(-Y_LIMIT, Y_LIMIT + 1, dtype=torch.float64)
    for index, scale in ((0, SCALE_MIN), (SCALES - 1, SCALE_MAX)):
        table = entropy.y_frequencies[index].double() / 2**22
        deviation = float((table * symbols**2).sum().sqrt())
        assert deviation == pytest.approx((scale**2 + 1 / 12) ** 0.5 if scale > 1 else deviation, rel=0.01)
        expected = gaussian_likelihood(symbols, torch.tensor(scale, dtype=torch.float64))
        assert (table - expected).abs().max() < 3e-4


def test_y_hat_is_exact_before_its_one_rounding() -> None:
    """The largest symbol, mean and inverse gain there are: the product is an integer below 2^53."""
    entropy = frozen()
    entropy.inverse_gain.fill_(2**31 - 1)
    mean = torch.full((1, LATENT, 1, 1), 2.0**20 - 1, dtype=torch.float64)
    symbols = torch.full_like(mean, Y_LIMIT)
    numerator = (256 * Y_LIMIT + 2**20 - 1) * (2**31 - 1)
    assert numerator < 2**53
    y_hat = entropy._dequantise(symbols, mean, torch.tensor([0]))
    assert y_hat.flatten()[0] == torch.tensor(numerator / 2**28, dtype=torch.float64).float()


def test_a_device_without_float64_gives_the_same_files() -> None:
    """Integers are derived, and parameters computed, on the CPU; the rest of the entropy model stays on the device."""
    entropy = frozen()
    y, level = latent(1, 8), torch.tensor([37])
    expected = entropy.quantise(y, level)
    payload, identity = entropy.encode(expected), entropy.identity()
    with Float32Device():
        entropy.to(DEVICE)
        entropy.freeze()
        entropy.thaw()
        assert entropy.z_medians.device == DEVICE and entropy.identity() == identity
        coded = entropy.quantise(y.to(DEVICE), level.to(DEVICE))
        assert coded.y_hat.device == DEVICE and torch.equal(coded.y_hat.cpu(), expected.y_hat)
        assert entropy.encode(coded) == payload
        assert torch.equal(entropy.decode(payload, (2, 2), 37), expected.y_hat)


def test_the_likelihood_bound_survives_half_precision() -> None:
    """1e-9 is 0 in float16, and the logarithm of 0 would end training that starts from a checkpoint."""
    entropy = frozen()
    entropy._likelihood_low.bound.zero_()
    entropy.thaw()
    assert float(entropy._likelihood_low.bound) == pytest.approx(LIKELIHOOD_BOUND)


def test_one_image_at_a_time_and_levels_in_range() -> None:
    entropy = frozen()
    with pytest.raises(ValueError, match="one image"):
        entropy.encode(entropy(latent(2), torch.tensor([0, 0])))
    for level in (-1, 256):
        with pytest.raises(BitstreamError, match="rate level"):
            entropy.decode(b"", (1, 1), level)
    fixed = frozen(levels=1)
    with pytest.raises(BitstreamError, match="levels 0 to 0"):
        fixed.decode(b"", (1, 1), 1)


def test_files_have_one_name_for_each_parameter_whatever_the_release_of_compressai() -> None:
    new, old = FactorizedPrior(3), FactorizedPrior(3)
    for single, several in {"matrix": "matrices", "bias": "biases", "factor": "factors"}.items():
        if hasattr(old, several):  # Make it one of CompressAI 1.2.6.
            for layer, parameter in enumerate(getattr(old, several)):
                old.register_parameter(f"_{single}{layer}", parameter)
            delattr(old, several)
    assert "_matrix0" in dict(old.named_parameters())
    old.load_state_dict(new.state_dict())
    stored = new.state_dict()
    assert stored.keys() == old.state_dict().keys() >= {"matrices.0", "biases.4", "factors.3"}
    assert all(torch.equal(value, stored[name]) for name, value in old.state_dict().items())
