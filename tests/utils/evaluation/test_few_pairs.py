"""Evaluations at their smallest: one pair for two processes, and pairs of 16x16 pixels."""

import math
from pathlib import Path

import pytest
from evaluation_files import summary_of, write_split
from image_files import noise
from processes import torchrun

from data.tensors import to_float
from modules.perceptual import build_perceptual
from modules.pretrained.weights import WEIGHTS, default_folder
from utils.metrics.suite import MetricSuite


@pytest.fixture
def trunks() -> None:
    """The real weights of LPIPS; the test is skipped where they are not."""
    missing = [n for n in ("alexnet", "vgg16") if not (default_folder() / WEIGHTS[n].file).is_file()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not in {default_folder()}: run scripts/fetch_weights.py")


@pytest.mark.slow
def test_one_pair_by_two_processes(ckpt: Path, tmp_path: Path) -> None:
    """The second process has nothing to measure, and the report is complete."""
    data = write_split(tmp_path / "data", "val", ["a"])
    given = [
        "--ckpt",
        str(ckpt),
        "--dataset",
        "folder",
        "--data-root",
        str(data),
        "--rates",
        "0.5",
        "--anchors",
        "jpeg",
    ]
    out = tmp_path / "out"
    done = torchrun("evaluate.py", *given, "--out", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    summary = summary_of(out)
    assert summary["environment"]["processes"] == 2 and summary["dataset"]["pairs"] == 1
    assert all(math.isfinite(point["metrics"]["psnr"]["mean"]) for point in summary["points"])
    assert (out / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("trunks")
@pytest.mark.parametrize(("edge", "alex"), [(16, False), (30, False), (31, True)])
def test_lpips_of_small_images_is_a_number_or_a_sentence(edge: int, alex: bool) -> None:
    """VGG has a value from 16 pixels on, AlexNet from 31; below, the summary says so."""
    suite = MetricSuite(["lpips_alex", "lpips_vgg", "dists"])
    x, x_hat = noise(edge, edge, 0), noise(edge, edge, 1)
    (row,) = suite.measure(x, [x_hat])
    assert row.keys() >= {"lpips_vgg", "dists"} and ("lpips_alex" in row) == alex
    assert all(math.isfinite(value) and value > 0 for value in row.values())
    entry = suite.summarise([row], ["a"], [{}], [{}])["lpips_alex"]
    assert alex or "at least 31 pixels" in entry["unavailable"]


@pytest.mark.slow
@pytest.mark.usefixtures("trunks")
def test_lpips_as_a_loss_has_a_gradient_at_16_pixels() -> None:
    loss = build_perceptual("lpips_vgg")
    assert loss is not None
    x, x_hat = (to_float(noise(16, 16, seed))[None] for seed in (0, 1))
    value = loss(x_hat.requires_grad_(), x)
    value.sum().backward()
    assert value.isfinite().all() and x_hat.grad is not None and x_hat.grad.isfinite().all() and x_hat.grad.any()
