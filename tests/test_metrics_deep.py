"""Metrics on downloaded networks, tested on stand-in weights: plumbing and ranges, never values."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import stand_ins
import torch
from torch import nn

from utils.metrics import MetricSuite
from utils.metrics.sets import SET_METRICS
from utils.metrics.statistics import frechet_distance

NAMES = ["lpips_alex", "lpips_vgg", "dists", "fid", "kid"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small images gain nothing from a second thread and lose much when the core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    stand_ins.trunk("alexnet", path)
    stand_ins.trunk("vgg16", path)
    stand_ins.inception(path)
    return path


@pytest.fixture(scope="module")
def suite(folder) -> MetricSuite:
    suite = MetricSuite(NAMES, weights_dir=folder, allow_unverified=True)
    assert not suite.unavailable
    return suite


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    from skimage import data

    photo = data.rocket()
    return [np.ascontiguousarray(photo[100:164, 40 * i : 40 * i + 96]) for i in range(4)]


@pytest.fixture
def few_images(monkeypatch):
    """FID and KID of two images or more, to test what they compute on little."""
    for name in ("fid", "kid"):
        monkeypatch.setitem(SET_METRICS, name, replace(SET_METRICS[name], least=2))


def distort(image: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def test_stand_ins_are_refused_unless_allowed(folder):
    suite = MetricSuite(NAMES, weights_dir=folder)
    assert set(suite.unavailable) == set(NAMES)
    assert all("not the published" in reason for reason in suite.unavailable.values())


def test_stand_ins_are_never_reported_as_the_metric(suite, images, few_images):
    rows = [suite.measure(x, distort(x)) for x in images]
    references, hats = map(list, zip(*(suite.features(x, distort(x)) for x in images), strict=True))
    result = suite.summarise(rows, ["a", "a", "b", "b"], references, hats)
    for name in NAMES:
        assert "mean" not in result[name] and "value" not in result[name] and "unavailable" in result[name]
    assert result["fid"]["unverified"]["n"] == 4 and result["kid"]["unverified"]["subset_size"] == 4


@pytest.mark.parametrize("name", ["lpips_alex", "lpips_vgg"])
def test_lpips_is_the_packages_on_minus_one_to_one(suite, images, name):
    network = suite._image[name]._network
    x, x_hat = images[0], distort(images[0])
    value = suite._image[name](suite._tensor(x), suite._tensor(x_hat))
    with torch.no_grad():
        package = float(network(batch(x_hat), batch(x), normalize=True))  # scales [0, 1] to [-1, 1]
        wrong_range = float(network(batch(x_hat), batch(x)))
    assert value == pytest.approx(package, rel=1e-4)
    assert abs(wrong_range / value - 1) > 0.05
    assert suite._image[name](suite._tensor(x), suite._tensor(x)) == 0


@pytest.mark.parametrize("name", ["lpips_alex", "lpips_vgg", "dists"])
def test_no_dropout_no_parameters_no_training_mode(suite, images, name):
    network = suite._image[name]._network
    assert not any(module.training for module in network.modules())
    used = [module for part in network.children() for module in part.modules()]
    assert not any(isinstance(module, nn.Dropout) for module in used)
    assert not list(network.parameters()) and not network.state_dict()
    pair, other = ((suite._tensor(x), suite._tensor(distort(x))) for x in images[:2])
    value = suite._image[name](*pair)
    suite._image[name](*other)
    assert suite._image[name](*pair) == value


def test_the_smallest_images(suite, images):
    """AlexNet's strides leave nothing of an image under 31 pixels; all other networks take 16."""
    for side, without in ((16, {"lpips_alex"}), (30, {"lpips_alex"}), (31, set())):
        x = images[0][:side, :side]
        row = suite.measure(x, distort(x))
        assert set(row) == {"lpips_alex", "lpips_vgg", "dists"} - without
        assert all(np.isfinite(value) for value in row.values())
    tiny = images[0][:16, :16]
    rows = [suite.measure(x, distort(x)) for x in (tiny, images[1])]
    features = suite.features(tiny, images[1])
    result = suite.summarise(rows, ["a", "b"], features, features)
    assert (result["lpips_alex"]["unverified"]["n"], result["lpips_alex"]["unverified"]["of"]) == (1, 2)
    assert "31 pixels" in result["lpips_alex"]["unverified"]["left_out"]
    assert result["lpips_vgg"]["unverified"]["n"] == 2
    assert "n is 2" in result["fid"]["unavailable"] and "n is 2" in result["kid"]["unavailable"]


def test_lpips_trunk_is_the_file(folder, suite):
    state = torch.load(folder / "alexnet-owt-7be5be79.pth", weights_only=True)
    network = suite._image["lpips_alex"]._network.net
    assert torch.equal(getattr(network.slice1, "0").weight, state["features.0.weight"])
    assert torch.equal(getattr(network.slice5, "10").bias, state["features.10.bias"])


def test_dists_is_torchmetrics(folder, suite, images):
    from torchmetrics.functional.image import deep_image_structure_and_texture_similarity, dists
    from torchvision.models import vgg16

    state = torch.load(folder / "vgg16-397923af.pth", weights_only=True)

    def with_stand_in(weights: object) -> nn.Module:
        network = vgg16(weights=None, init_weights=False)
        network.features.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
        return network

    x, x_hat = images[0], distort(images[0])
    with patch.object(dists, "vgg16", with_stand_in):
        expected = float(deep_image_structure_and_texture_similarity(batch(x_hat), batch(x)).detach())
    assert suite.measure(x, x_hat)["dists"] == pytest.approx(expected, abs=1e-5)
    assert suite.measure(x, x)["dists"] == pytest.approx(0, abs=1e-5)


def test_inception_features_are_torch_fidelitys(folder, suite, images, few_images):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    path = folder / "weights-inception-2015-12-05-6726825d.pth"
    network = FeatureExtractorInceptionV3("reference", ["2048"], feature_extractor_weights_path=str(path)).eval()
    hats = [distort(x, i) for i, x in enumerate(images)]
    stacks = [torch.from_numpy(np.stack(group)).permute(0, 3, 1, 2) for group in (images, hats)]
    with torch.no_grad():
        expected = [network(stack)[0] for stack in stacks]
    ours = [[item["inception"] for item in suite.features(*group)] for group in (images, hats)]
    for a, b in zip(expected, ours, strict=True):
        assert b[0].shape == (2048,) and b[0].dtype == np.float32
        assert np.allclose(a.numpy(), np.stack(b), rtol=1e-3, atol=1e-5 * float(a.abs().max()))

    rows = [suite.measure(x, x_hat) for x, x_hat in zip(images, hats, strict=True)]
    references, others = ([{"inception": f} for f in group] for group in ours)
    result = suite.summarise(rows, list("abcd"), references, others)
    x, y = (np.stack(group) for group in ours)
    assert result["fid"]["unverified"]["value"] == pytest.approx(frechet_distance(x, y))
    kid = kid_features_to_metric(*map(torch.from_numpy, (x, y)), kid_subset_size=4, kid_subsets=1, verbose=False)
    assert result["kid"]["unverified"]["value"] == pytest.approx(kid[KEY_METRIC_KID_MEAN], rel=1e-2, abs=1e-6)
    few = [fid_features_to_statistics(torch.from_numpy(a[:, :32].astype(np.float64))) for a in (x, y)]
    fid = fid_statistics_to_metric(*few, False)[KEY_METRIC_FID]
    assert frechet_distance(x[:, :32], y[:, :32]) == pytest.approx(fid, rel=1e-3, abs=1e-9)


def test_a_pickle_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self) -> tuple:
            return (print, ("executed",))

    torch.save(Evil(), tmp_path / "weights-inception-2015-12-05-6726825d.pth")
    with pytest.raises(Exception, match=r"weights_only|Unsupported|WeightsUnpickler"):
        MetricSuite(["fid"], weights_dir=tmp_path, allow_unverified=True)
