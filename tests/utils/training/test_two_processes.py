"""Two processes on a CPU do what one does, and go on after SIGKILL. Started as a user would: `torchrun`."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_files import write_checkpoint
from processes import torchrun
from safetensors.torch import load_file
from tiny import tiny_config, train_a_little
from torch import Tensor
from trainers import trainer
from worker import TRAINS, first_gradients, shared_config, stage_2, two_steps

from utils.configrules import validate
from utils.errors import ConfigError
from utils.training.checkpoints import STATE_FILE

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def flags(fields: dict[str, Any], prefix: str = "") -> list[str]:
    """A configuration as train.py's command line."""
    found: list[str] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            found += flags(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            found.append(f"--{prefix}{name}" if value else f"--{prefix}no-{name}")
        elif value not in ([], ()):  # Sets of pictures that are not given.
            found += [f"--{prefix}{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return found


@pytest.fixture(scope="module")
def runs(folder_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes of `tests/worker.py` left behind."""
    folder = tmp_path_factory.mktemp("runs")
    done = torchrun("tests/worker.py", "gradients", str(folder_data), str(folder))
    assert "SIGKILL" in done.stderr, done.stderr[-3000:]
    return folder


@pytest.fixture
def one_process(folder_data: Path, tmp_path: Path) -> dict[str, Tensor]:
    """Gradients of the whole batch in this process."""
    return first_gradients(trainer(shared_config(str(folder_data), "one"), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["halves", "quarters"])
def test_mistake_05_half_the_batch_each_gives_one_process_s_gradients(runs, one_process, name):
    """To 1e-5 of the whole gradient's norm, and to 1e-4 of each parameter's largest entry (float32 sums that nearly
    cancel), on both processes, also with two accumulated quarters."""
    for rank in (0, 1):
        gradients = load_file(runs / f"{name}_{rank}.safetensors")
        assert gradients.keys() == one_process.keys()
        square = {"error": 0.0, "gradient": 0.0}
        for parameter, gradient in gradients.items():
            expected = one_process[parameter]
            error = (gradient - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
            assert error < 1e-4, f"{parameter} differs by {error:.2g} on process {rank}"
            square["error"] += float((gradient - expected).double().square().sum())
            square["gradient"] += float(expected.double().square().sum())
        assert square["error"] ** 0.5 < 1e-5 * square["gradient"] ** 0.5, f"on process {rank}: {square}"


@pytest.mark.slow
def test_two_processes_go_on_after_sigkill(runs: Path, folder_data: Path) -> None:
    """The same command again: train.py resumes after the last whole checkpoint and ends where the whole run ended."""
    checkpoints = runs / "killed" / "checkpoints"
    assert sorted(f.name for f in checkpoints.glob("step*")) == ["step_00000002", "step_00000004.tmp"]
    config = shared_config(str(folder_data), "killed")
    done = torchrun("train.py", "--cpu", f"--runs={runs}", *flags(asdict(config)))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed after step 2" in done.stderr
    assert sorted(f.name for f in checkpoints.glob("step*")) == ["step_00000002", "step_00000004"]
    whole, resumed = (load_file(runs / n / "checkpoints" / "step_00000004" / STATE_FILE) for n in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (runs / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 4]  # Four training lines and one of validation, written by one process only.


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
