"""The second stage by two processes: frozen parts, unused parameters and the critic as with one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_files import write_checkpoint
from processes import torchrun
from safetensors.torch import load_file
from tiny import tiny_config, train_a_little
from torch import Tensor
from trainers import trainer
from worker import TRAINS, stage_2, two_steps

from utils.configrules import validate
from utils.errors import ConfigError

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to start from."""
    config = tiny_config()
    return write_checkpoint(tmp_path_factory.mktemp("first"), train_a_little(config, 2), config)


@pytest.fixture(scope="module")
def both(first_stage: Path, folder_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes of `tests/worker.py stage_2` left behind."""
    runs = tmp_path_factory.mktemp("runs")
    done = torchrun("tests/worker.py", "stage_2", str(folder_data), str(runs), str(first_stage))
    assert done.returncode == 0, done.stderr[-3000:]
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("part", list(TRAINS))
def test_two_processes_train_stage_2_as_one(both, first_stage, folder_data, tmp_path, part):
    """The critic's gradient to 1e-4 of its norm, the codec's to 4 %, the weights to 5 and 20 % of the way of two steps.

    The codec's gradient passes the kinks of the frozen network: weights that change by 1e-7 move it by 0.6 %,
    another number of threads by 3 %, and Adam's first steps go by the sign of every entry.
    """
    one = two_steps(trainer(stage_2(str(folder_data), part), tmp_path, init=str(first_stage)))
    start = trainer(stage_2(str(folder_data), part), tmp_path / "start", init=str(first_stage))
    assert start.critic is not None
    fresh = {f"weight codec.{n}": p.detach() for n, p in start.codec.named_parameters()}
    fresh |= {f"weight critic.{n}": p.detach() for n, p in start.critic.critic.named_parameters()}
    graded = {name.split()[1].split(".")[1] for name in one if name.startswith("gradient codec")}
    assert graded == ({"unet"} if part == "denoiser" else {"e_side", "g_s", "mean", "unet"})
    for rank in (0, 1):
        two = load_file(both / f"{part}-{rank}.safetensors")
        assert two.keys() == one.keys()
        for kind, bound in {
            "gradient critic": 1e-4, "gradient codec": 4e-2, "weight critic": 5e-2, "weight codec": 0.2
        }.items():  # fmt: skip
            names = [name for name in one if name.startswith(kind)]
            error = norm([two[name] - one[name] for name in names])
            scale = norm([one[name] - fresh.get(name, 0) for name in names])
            assert scale > 0 and error < bound * scale, f"{kind} on process {rank}: {error:.2g} of {scale:.2g}"


def norm(tensors: list[Tensor]) -> float:
    """Of all of them together."""
    return float(torch.cat([tensor.reshape(-1) for tensor in tensors]).norm())


def test_a_denoiser_alone_gets_noise_in_every_sample(folder_data: Path) -> None:
    """A process whose samples have none would have no gradient to give, and the other would wait for it."""
    config = stage_2(str(folder_data), "denoiser")
    validate(config)
    half = replace(config.diffusion, start_fraction=0.5)
    with pytest.raises(ConfigError, match=r"start_fraction is 0\.5.*nothing.*set it to 0"):
        validate(replace(config, diffusion=half))
    validate(replace(config, diffusion=replace(half, sampled_steps=0)))  # Its second task always has noise.
    validate(replace(stage_2(str(folder_data), "receiver"), diffusion=half))
