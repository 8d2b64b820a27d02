"""DICM and CDC in time: sampling visits the noise levels of training, and the schedules are the published ones."""

import pytest
import torch
from tiny_paper import X_SIDE, X, tiny_paper
from torch import Tensor

from modules.codec import build_codec
from modules.diffusion import Process, ddim, step_times
from modules.published.cdc import CDC
from utils.errors import ConfigError

SCHEDULES = [("epsilon", "linear", 20_000), ("x0", "cosine_offset", 8193), ("v", "cosine_offset", 8193)]


@pytest.mark.parametrize("steps", [1, 2, 17, 200])
@pytest.mark.parametrize(("prediction", "schedule", "timesteps"), SCHEDULES)
def test_few_step_sampling_uses_the_times_of_training(prediction, schedule, timesteps, steps):
    """Mistake 2: i/S in sampling where training has t/T; and one step at the cleanest level instead of the noisiest."""
    process = Process(prediction, schedule, timesteps)
    grid = process.sample_t((torch.arange(timesteps) + 0.5) / timesteps)
    assert torch.equal(grid, torch.arange(1, timesteps + 1) / timesteps)
    times = step_times(process, steps)
    assert times.shape == (steps + 1,) and times[0] == 1 and times[-1] == 0
    assert (times.diff() < 0).all() and torch.isin(times[:-1], grid).all()
    assert steps == 1 or times[-2] == grid[0], "as published, the last evaluation is at the cleanest level"


@pytest.mark.parametrize("steps", [0, 101])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match="1 to 100"):
        step_times(Process("x0", "linear", 100), steps)


@pytest.mark.parametrize("preset", ["dicm_paper", "cdc_x"])
def test_the_unet_is_told_the_time_of_the_noise_that_it_sees(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    codec = build_codec(tiny_paper(preset))
    codec.freeze()
    codec.eval()
    assert isinstance(codec, CDC)
    seen: list[Tensor] = []
    unet = codec.unet
    hook = unet.register_forward_pre_hook(lambda _, args: seen.append(args[1].clone()))
    codec.decompress(codec.compress(X[0]), X_SIDE[0], steps=5)
    hook.remove()
    levels = torch.stack(seen)[:, 0].double() * codec.process.timesteps
    torch.testing.assert_close(levels, levels.round(), atol=1e-2, rtol=0)
    assert torch.equal(torch.stack(seen)[:, 0], step_times(codec.process, 5)[:-1])


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
@pytest.mark.parametrize(("prediction", "schedule", "timesteps"), SCHEDULES)
def test_ddim_with_an_oracle_recovers_x0(prediction: str, schedule: str, timesteps: int, steps: int) -> None:
    process = Process(prediction, schedule, timesteps)
    x0 = 2 * X - 1

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        return process.target(x0, process.noise_from_x0(x_t, x0, t), t)

    start = 0.8 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ddim(process, oracle, start, steps, clip=False), x0, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("schedule", "timesteps"), [("linear", 20_000), ("cosine_offset", 8193)])
def test_predictions_convert_into_each_other(schedule: str, timesteps: int) -> None:
    x0, noise = 2 * X - 1, torch.randn(X.shape, generator=torch.Generator().manual_seed(1))
    for level in (1, timesteps // 3, timesteps // 2):
        t = torch.full((2,), level / timesteps)
        for prediction in ("x0", "v") if schedule != "linear" else ("x0", "epsilon", "v"):
            process = Process(prediction, schedule, timesteps)
            x_t = process.add_noise(x0, noise, t)
            torch.testing.assert_close(process.to_x0(x_t, process.target(x0, noise, t), t), x0, atol=1e-5, rtol=0)


def test_the_discrete_schedules_are_the_published_tables() -> None:
    linear = Process("epsilon", "linear", 1000)
    alpha, sigma = linear.alpha_sigma(torch.tensor([0.001, 0.5, 1.0]))
    assert float(alpha[0]) ** 2 == pytest.approx(1 - 1e-4, rel=1e-6)
    assert float(alpha[2]) ** 2 == pytest.approx(4.0358e-5, rel=1e-3)  # Ho et al.'s, of 1000 steps
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    offset = Process("x0", "cosine_offset", 8193)
    t = torch.tensor([2000, 6000]) / 8193
    expected = ((t + 0.008) / 1.008 * torch.pi / 2).cos() / torch.tensor(0.008 / 1.008 * torch.pi / 2).cos()
    torch.testing.assert_close(offset.alpha_sigma(t)[0][:, 0, 0, 0], expected)
