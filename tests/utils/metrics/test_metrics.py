"""Metrics against closed forms and reference libraries, and what the suite says when it cannot measure."""

import io
import json
import math
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import correlate1d

from modules.perceptual import NETWORKS, build_perceptual
from utils.errors import ConfigError
from utils.metrics import METRICS, MetricSuite, independent_of
from utils.metrics import effnet as effnet_metrics
from utils.metrics.bootstrap import ClusterBootstrap
from utils.metrics.sets import SET_METRICS

OFFLINE = ["psnr", "ssim", "ms_ssim_db", "cvvdp", "effnet_dist", "kd_effnet", "fd_effnet"]
NEED_WEIGHTS = ["lpips_alex", "lpips_vgg", "dists", "fid", "kid"]


def photograph(height: int = 128, width: int = 256, left: int = 0) -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.rocket()[100 : 100 + height, left : left + width])


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=quality)
    return np.array(Image.open(buffer))


def noisy(image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small images gain nothing from a second thread and lose much when the core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def suite() -> MetricSuite:
    return MetricSuite("offline")


def test_offline_is_what_needs_no_download(suite):
    assert suite.names == OFFLINE and not suite.unavailable
    assert set(METRICS) == {*OFFLINE, *NEED_WEIGHTS}


def test_psnr_closed_form(suite):
    x = np.full((16, 16, 3), 100, np.uint8)
    x_hat = x.copy()
    x_hat[:4, :, 0] = 110  # a twelfth of the values is off by ten
    assert suite.measure(x, x_hat)["psnr"] == pytest.approx(10 * math.log10(255**2 / (100 / 12)), abs=1e-9)
    wrap = x.copy()
    wrap[...] = 90  # 90 - 100 must not wrap around in uint8
    assert suite.measure(x, wrap)["psnr"] == pytest.approx(20 * math.log10(25.5), abs=1e-9)


def test_psnr_of_a_set_is_the_mean_of_psnrs_not_the_psnr_of_the_mean(suite):
    x = photograph()
    pairs = [(x, noisy(x, 2)), (x, noisy(x, 20))]
    rows = [suite.measure(*pair) for pair in pairs]
    psnrs = [10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2)) for a, b in pairs]
    features = [suite.features(x)[0]] * 2
    result = suite.summarise(rows, ["a", "b"], features, features)
    assert result["psnr"]["mean"] == pytest.approx(np.mean(psnrs), abs=1e-6)
    of_the_mean = 10 * math.log10(255**2 / np.mean([np.mean((a.astype(float) - b) ** 2) for a, b in pairs]))
    assert abs(result["psnr"]["mean"] - of_the_mean) > 3


@pytest.mark.parametrize("size", [(16, 16), (65, 257), (128, 256)])
def test_ssim_equals_scikit_image(suite, size):
    from skimage.metrics import structural_similarity

    x = photograph(*size)
    x_hat = noisy(jpeg(x, 20), 4)
    expected = structural_similarity(
        x, x_hat, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert suite.measure(x, x_hat)["ssim"] == pytest.approx(expected, abs=2e-5)


def reference_ms_ssim(x: np.ndarray, y: np.ndarray, window: int) -> float:
    """Wang et al. 2003 in double precision, written out with SciPy."""
    positions = np.arange(window) - window // 2
    g = np.exp(-(positions**2) / (2 * 1.5**2))
    g /= g.sum()
    crop = slice(window // 2, -(window // 2))

    def blur(a: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(a, g, axis=0), g, axis=1)[crop, crop]

    a, b = x.astype(float), y.astype(float)
    value = np.ones(3)
    for level, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mu_a, mu_b = blur(a), blur(b)
        var_a, var_b, cov = blur(a * a) - mu_a**2, blur(b * b) - mu_b**2, blur(a * b) - mu_a * mu_b
        term = (2 * cov + (0.03 * 255) ** 2) / (var_a + var_b + (0.03 * 255) ** 2)
        if level == 4:
            term = term * (2 * mu_a * mu_b + (0.01 * 255) ** 2) / (mu_a**2 + mu_b**2 + (0.01 * 255) ** 2)
        value *= term.mean(axis=(0, 1)) ** weight
        a, b = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2, 3).mean(axis=(1, 3)) for v in (a, b))
    return float(value.mean())


@pytest.mark.parametrize(("size", "window"), [((128, 256), 7), ((160, 192), 7), ((192, 256), 11)])
def test_ms_ssim_window_and_decibels(suite, size, window):
    x = photograph(*size)
    x_hat = jpeg(x, 15)
    row = suite.measure(x, x_hat)
    assert row["ms_ssim_window"] == window
    expected = -10 * math.log10(1 - reference_ms_ssim(x, x_hat, window))
    assert row["ms_ssim_db"] == pytest.approx(expected, abs=2e-3)
    other = -10 * math.log10(1 - reference_ms_ssim(x, x_hat, 7 if window == 11 else 5))
    assert abs(row["ms_ssim_db"] - other) > 5e-3  # the window changes the value, so it is stated


def summary_of(suite: MetricSuite, rows: list[dict[str, float]], groups: list[str]) -> dict:
    nothing: list[dict] = [{}] * len(rows)
    return suite.summarise(rows, groups, nothing, nothing)


def test_a_mean_is_over_the_images_for_which_the_metric_is_defined(suite):
    heights, groups = (96, 97, 192, 128, 40), list("aabcd")
    rows = [suite.measure(photograph(h), noisy(photograph(h), 2 + i)) for i, h in enumerate(heights)]
    assert [i for i, row in enumerate(rows) if "ms_ssim_db" in row] == [1, 2, 3]
    result = summary_of(suite, rows, groups)
    entry = result["ms_ssim_db"]
    assert entry["mean"] == pytest.approx(np.mean([rows[i]["ms_ssim_db"] for i in (1, 2, 3)]))
    assert entry["ci95"] == pytest.approx(ClusterBootstrap(list("abc")).mean([r["ms_ssim_db"] for r in rows[1:4]]))
    assert (entry["n"], entry["of"], entry["groups"], entry["window"]) == (3, 5, 3, [7, 11])
    assert "2 of 5 images have no value" in entry["left_out"] and "97 pixels" in entry["left_out"]
    assert result["psnr"]["n"] == 5 and "of" not in result["psnr"]


def test_a_metric_that_no_image_has_is_unavailable_with_the_reason(suite):
    rows = [suite.measure(photograph(96), noisy(photograph(96), 5))] * 2
    entry = summary_of(suite, rows, ["a", "b"])["ms_ssim_db"]
    assert set(entry) == {"unavailable"}
    assert "2 of 2" in entry["unavailable"] and "97 pixels" in entry["unavailable"]


def test_a_value_that_is_not_finite_counts_as_none(monkeypatch):
    suite = MetricSuite(["psnr", "ssim"])
    values = iter([0.5, math.nan, 0.7, math.inf])

    class Failing:
        min_side = 11

        def __call__(self, *_: object) -> float:
            return next(values)

    monkeypatch.setitem(suite._image, "ssim", Failing())
    rows = [suite.measure(photograph(16, 16), photograph(16, 16)) for _ in range(4)]
    entry = summary_of(suite, rows, list("abcd"))["ssim"]
    assert entry["mean"] == pytest.approx(0.6) and (entry["n"], entry["of"]) == (2, 4)
    assert "finite" in entry["left_out"]


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_a_set_of_too_few_images_is_a_sentence_and_of_enough_a_finite_number(name, monkeypatch):
    def retired(*_: object, **__: object) -> None:
        raise TypeError("SciPy has changed this function's arguments")

    monkeypatch.setattr("scipy.linalg.sqrtm", retired)
    rng, least = np.random.default_rng(0), SET_METRICS[name].least
    for n in (1, 2, least - 1, least):
        x, y = ([{"inception": rng.normal(size=2048).astype(np.float32)} for _ in range(n)] for _ in range(2))
        entry = SET_METRICS[name].summarise(x, y, ClusterBootstrap(["a"] * n))
        if n < least:
            assert set(entry) == {"unavailable"}
            assert f"n is {n}" in entry["unavailable"] and "evaluate more" in entry["unavailable"]
        else:
            assert math.isfinite(entry["value"]) and entry["n"] == n


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_a_sentence(suite, value):
    features = suite.features(*(photograph(left=30 * i) for i in range(6)))
    broken = [features[0] | {"effnet": np.full_like(features[0]["effnet"], value)}, *features[1:]]
    result = suite.summarise([{"psnr": 30.0}] * 6, list("abcdef"), features, broken)
    assert all("not finite" in result[name]["unavailable"] for name in ("kd_effnet", "fd_effnet"))
    assert result["psnr"]["mean"] == 30


@pytest.mark.parametrize("levels", [(0, 1), (0, 4), (252, 256)], ids=["black", "dark", "white"])
def test_dark_and_bright_images_are_measured_without_a_word(suite, levels, caplog):
    rng = np.random.default_rng(0)
    x, x_hat = (rng.integers(*levels, (128, 128, 3)).astype(np.uint8) for _ in range(2))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        row = suite.measure(x, x_hat)
    assert set(row) == {"psnr", "ssim", "ms_ssim_db", "ms_ssim_window", "cvvdp", "effnet_dist"}
    assert not caplog.records and not warned


def test_identical_images(suite):
    x = photograph()
    row = suite.measure(x, x.copy())
    assert row["psnr"] == 100 and row["ms_ssim_db"] == 50 and row["cvvdp"] == 10
    assert row["ssim"] == pytest.approx(1, abs=1e-6) and row["effnet_dist"] == 0


def test_every_metric_orders_jpeg_qualities(suite):
    images = [photograph(left=left) for left in (0, 60, 120, 180, 240)]
    summaries = []
    for quality in (5, 20, 80):
        pairs = [(x, jpeg(x, quality)) for x in images]
        rows = [suite.measure(*pair) for pair in pairs]
        references, hats = map(list, zip(*(suite.features(*pair) for pair in pairs), strict=True))
        summaries.append(suite.summarise(rows, list("abcde"), references, hats))
    for name in OFFLINE:
        values = [summary[name]["mean" if METRICS[name].scope == "image" else "value"] for summary in summaries]
        assert values == sorted(values, reverse=not METRICS[name].higher_is_better), name
        assert len(set(values)) == 3, name


def test_every_size_from_16_up(suite):
    for size in ((16, 16), (17, 203), (65, 257)):
        row = suite.measure(photograph(*size), noisy(photograph(*size), 5))
        assert set(row) == {"psnr", "ssim", "cvvdp", "effnet_dist"}
        assert all(math.isfinite(value) for value in row.values())


def test_an_image_does_not_depend_on_those_measured_before(suite):
    x, other = photograph(), photograph(left=100)
    x_hat = jpeg(x, 30)
    fresh = MetricSuite(["effnet_dist", "kd_effnet", "cvvdp"])
    expected, expected_features = fresh.measure(x, x_hat), fresh.features(x_hat)[0]
    for _ in range(10):
        suite.measure(other, noisy(other, 9))
    row, features = suite.measure(x, x_hat), suite.features(x, x_hat)
    assert {name: row[name] for name in expected} == expected
    assert np.array_equal(features[1]["effnet"], expected_features["effnet"])
    assert not np.array_equal(features[0]["effnet"], features[1]["effnet"])


def test_networks_are_built_once(suite, monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a network is built while measuring")

    monkeypatch.setattr(effnet_metrics.EfficientNetFeatures, "__init__", forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    suite.measure(photograph(), noisy(photograph(), 3))


def test_features_are_small_and_their_positions_depend_on_the_size_only(suite):
    small, large = suite.features(photograph(), photograph(300, 400))
    assert small["effnet"].shape == (128, 120) and large["effnet"].shape == (256, 120)
    assert small["effnet"].nbytes < 64_000 and small["effnet"].dtype == np.float16
    assert 0.2 < np.sqrt(np.mean(small["effnet"].astype(float) ** 2)) < 5


def set_entries(suite: MetricSuite, sigma: float, n: int = 6) -> dict:
    images = [photograph(left=30 * i) for i in range(n)]
    pairs = [(x, noisy(x, sigma, seed=i) if sigma else x) for i, x in enumerate(images)]
    rows = [suite.measure(*pair) for pair in pairs]
    references, hats = map(list, zip(*(suite.features(*pair) for pair in pairs), strict=True))
    return suite.summarise(rows, [f"g{i // 2}" for i in range(n)], references, hats)


def test_set_metrics_of_identical_images_are_zero(suite):
    result = set_entries(suite, 0)
    assert result["kd_effnet"]["value"] == 0 and result["kd_effnet"]["ci95"] == [0, 0]
    assert result["fd_effnet"]["value"] == pytest.approx(0, abs=1e-6)


def test_set_metrics_state_what_they_are(suite):
    entry = set_entries(suite, 10)["kd_effnet"]
    assert entry["value"] > 0 and entry["ci95"][0] <= entry["value"] <= entry["ci95"][1]
    assert (entry["n"], entry["groups"], entry["vectors"]) == (6, 3, 768)
    assert "stage5" in entry["layer"] and "120" in entry["layer"]


def test_too_few_vectors_are_unavailable_with_the_reason(suite):
    result = set_entries(suite, 10, n=4)  # 512 vectors, 600 needed
    for name in ("kd_effnet", "fd_effnet"):
        assert "512" in result[name]["unavailable"] and "600" in result[name]["unavailable"]
    assert "mean" in result["psnr"]


def test_one_group_gives_no_interval(suite):
    x = photograph()
    features = suite.features(x)
    entry = suite.summarise([suite.measure(x, noisy(x, 5))], ["only"], features, features)
    assert entry["psnr"]["ci95"] is None and entry["psnr"]["groups"] == 1
    assert "at least 2 images" in entry["kd_effnet"]["unavailable"]


def test_a_sweep_can_be_stored_reordered_and_summarised_later(suite, tmp_path):
    images = [photograph(left=20 * i) for i in range(6)]
    pairs = [(x, jpeg(x, 20 + 5 * i)) for i, x in enumerate(images)]
    rows, references, hats = [], [], []
    for i, (x, x_hat) in enumerate(pairs):
        rows.append(json.loads(json.dumps(suite.measure(x, x_hat))))
        reference, hat = suite.features(x, x_hat)
        arrays = {f"x_{k}": v for k, v in reference.items()} | {f"y_{k}": v for k, v in hat.items()}
        np.savez(tmp_path / f"{i}.npz", **arrays)
        stored = np.load(tmp_path / f"{i}.npz")
        references.append({k[2:]: stored[k] for k in stored.files if k.startswith("x_")})
        hats.append({k[2:]: stored[k] for k in stored.files if k.startswith("y_")})
    groups = ["a", "b", "b", "c", "c", "d"]
    later = MetricSuite("offline").summarise(rows, groups, references, hats)
    json.dumps(later, allow_nan=False)
    order = [3, 1, 5, 0, 2, 4]
    again = suite.summarise(*([items[i] for i in order] for items in (rows, groups, references, hats)))
    for name in OFFLINE:
        key = "mean" if METRICS[name].scope == "image" else "value"
        assert again[name][key] == pytest.approx(later[name][key], rel=1e-9)
        if "ci95" in later[name]:
            assert again[name]["ci95"] == pytest.approx(later[name]["ci95"], rel=1e-9)


def test_features_that_were_not_stored_are_reported(suite):
    x = photograph()
    entry = suite.summarise([suite.measure(x, x)] * 2, ["a", "b"], [{}, {}], [{}, {}])["fd_effnet"]
    assert "not stored" in entry["unavailable"]


def test_without_weights_metrics_are_unavailable_at_once_and_never_dropped(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    start = time.monotonic()
    suite = MetricSuite(["psnr", *NEED_WEIGHTS])
    assert time.monotonic() - start < 5
    x = photograph()
    row = suite.measure(x, noisy(x, 5))
    assert set(row) == {"psnr"}
    features = suite.features(x)
    result = suite.summarise([row], ["a"], features, features)
    assert list(result) == suite.names
    for name in NEED_WEIGHTS:
        assert set(result[name]) == {"unavailable"} and "fetch_weights.py" in result[name]["unavailable"]


def test_a_missing_package_makes_its_metric_unavailable(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycvvdp", None)
    suite = MetricSuite(["psnr", "cvvdp"])
    assert "pycvvdp" in suite.unavailable["cvvdp"] and "pip install" in suite.unavailable["cvvdp"]
    assert set(suite.measure(photograph(), photograph())) == {"psnr"}


def test_wrong_input_is_refused(suite):
    x = photograph()
    for bad in (x.astype(np.float32) / 255, x[..., 0], x[:64]):
        with pytest.raises(ValueError):
            suite.measure(x, bad)
    with pytest.raises(ConfigError, match=r"lpips_squeeze.*lpips_alex"):
        MetricSuite(["psnr", "lpips_squeeze"])


def test_no_metric_shares_the_network_of_the_default_training_loss(suite):
    """EfficientNet: other weights in the loss than in the metrics, by name and by content."""
    assert independent_of(NETWORKS["effnet"]) == list(METRICS)
    loss = build_perceptual("effnet")
    measured = effnet_metrics.EfficientNetFeatures("lite2")
    big = [b for b in measured.buffers() if b.numel() > 200]
    for buffer in loss.buffers():
        assert not any(buffer.shape == other.shape and torch.allclose(buffer, other) for other in big)


def test_a_metric_on_the_network_of_the_training_loss_says_that_it_does_not_judge(suite, tmp_path, monkeypatch):
    """LPIPS-VGG as a loss disqualifies both metrics on VGG16."""
    assert set(METRICS) - set(independent_of(NETWORKS["lpips_vgg"])) == {"lpips_vgg", "dists"}
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    judged = MetricSuite(["psnr", "lpips_vgg", "dists", "effnet_dist"])
    x = photograph()
    features = judged.features(x)
    result = judged.summarise([judged.measure(x, x)], ["a"], features, features, trained_on=NETWORKS["lpips_vgg"])
    assert [name for name in result if "note" in result[name]] == ["lpips_vgg", "dists"]
