"""The noise process: one definition of time, and three predictions that say the same."""

import math

import pytest
import torch

from modules.diffusion import Process

KINDS = [
    ("x0", "cosine", 0),
    ("v", "cosine", 0),
    ("x0", "linear", 1000),
    ("epsilon", "linear", 20000),
    ("v", "linear", 100),
    ("x0", "cosine_offset", 8193),
    ("v", "cosine_offset", 50),
]


def times(process: Process, count: int = 64) -> torch.Tensor:
    """Noise levels that training draws, the first and the last among them."""
    t = process.sample_t(torch.linspace(0, 1 - 1e-6, count))
    return torch.cat([t, torch.ones(1)])


def images(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, 3, 8, 8, generator=generator) - 1, torch.randn(count, 3, 8, 8, generator=generator)


@pytest.mark.parametrize(("prediction", "schedule", "timesteps"), KINDS)
def test_variance_is_preserved_and_noise_grows(prediction: str, schedule: str, timesteps: int) -> None:
    process = Process(prediction, schedule, timesteps)  # type: ignore[arg-type]
    t = times(process).sort().values
    alpha, sigma = (v[:, 0, 0, 0] for v in process.alpha_sigma(t))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(len(t)), rtol=0, atol=1e-6)
    assert (alpha.diff() <= 0).all() and (sigma.diff() >= 0).all()
    start = process.alpha_sigma(torch.zeros(1))
    assert start[0] == 1 and start[1] == 0


@pytest.mark.parametrize(("prediction", "schedule", "timesteps"), KINDS)
def test_the_right_prediction_gives_back_image_and_noise(prediction: str, schedule: str, timesteps: int) -> None:
    """target -> x0 -> noise to 1e-5, where the noise level leaves float32 the digits for it."""
    process = Process(prediction, schedule, timesteps)  # type: ignore[arg-type]
    t = times(process)
    x0, noise = images(len(t))
    x_t = process.add_noise(x0, noise, t)
    alpha, sigma = process.alpha_sigma(t)
    target = process.target(x0, noise, t)
    torch.testing.assert_close(target, {"x0": x0, "epsilon": noise, "v": alpha * noise - sigma * x0}[prediction])
    found = process.to_x0(x_t, target, t)
    lost = 1 / alpha if prediction == "epsilon" else torch.ones_like(alpha)
    assert ((found - x0).abs() <= 1e-5 * lost.clamp(min=1)).all()
    error = (process.noise_from_x0(x_t, x0, t) - noise).abs()
    assert (error <= 1e-5 / sigma.clamp(max=1)).all()


@pytest.mark.parametrize("ratio", [0.05, 1.0, 3.0])
def test_noise_over_signal_of_the_cosine_schedule(ratio: float) -> None:
    """sigma / alpha = noise_ratio x tan(pi t / 2); variance preserved, pure noise at the end."""
    process = Process("x0", "cosine", noise_ratio=ratio)
    t = torch.tensor([0.1, 0.5, 0.9, 1.0])
    alpha, sigma = (v[:, 0, 0, 0].double() for v in process.alpha_sigma(t))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(4, dtype=torch.float64))
    expected = ratio * torch.tan(t[:3].double() * math.pi / 2)
    torch.testing.assert_close((sigma / alpha)[:3], expected, rtol=1e-5, atol=0)
    assert float(sigma[1] / alpha[1]) == pytest.approx(ratio, rel=1e-5) and alpha[3] == 0 and sigma[3] == 1


def test_linear_is_the_published_schedule() -> None:
    """Ho et al. 2020, T = 1000: the product of 1 - beta."""
    process = Process("x0", "linear", 1000)
    product = 1.0
    for i in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999)
        if i in (0, 499, 999):
            alpha = float(process.alpha_sigma(torch.tensor([(i + 1) / 1000]))[0])
            assert alpha == pytest.approx(math.sqrt(product), rel=1e-6)


def test_cosine_with_offset_is_the_published_schedule() -> None:
    """Nichol and Dhariwal 2021, equations 17: alpha_bar = f(t) / f(0), s = 0.008."""

    def f(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    alpha = float(Process("x0", "cosine_offset", 1000).alpha_sigma(torch.tensor([0.5]))[0])
    assert alpha == pytest.approx(math.sqrt(f(0.5) / f(0.0)), rel=1e-5)


@pytest.mark.parametrize("timesteps", [2, 3, 50, 1000])
def test_discrete_times_are_the_levels_and_nothing_else(timesteps: int) -> None:
    process = Process("x0", "linear", timesteps)
    t = process.sample_t(torch.rand(5000, generator=torch.Generator().manual_seed(0)))
    steps = t * timesteps
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
    assert steps.min() > 0.5 and t.max() <= 1
    if timesteps <= 3:
        counts = torch.bincount(steps.round().long())[1:]
        assert (counts > 0.9 * 5000 / timesteps).all()
