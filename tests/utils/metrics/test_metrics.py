"""Metrics against closed forms and reference libraries, and what the suite says when it cannot measure."""

import io
import math
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import correlate1d

from modules.perceptual import NETWORKS
from utils.errors import ConfigError
from utils.metrics.bootstrap import ClusterBootstrap
from utils.metrics.info import METRICS
from utils.metrics.sets import MIN_IMAGES, summarise_set
from utils.metrics.suite import MetricSuite

OFFLINE = ["psnr", "ssim", "ms_ssim_db", "cvvdp"]
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


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def suite() -> MetricSuite:
    return MetricSuite(OFFLINE)


def measured(suite: MetricSuite, x: np.ndarray, x_hat: np.ndarray) -> dict[str, float]:
    return suite.measure(x, [x_hat])[0]


def vectors(n: int, seed: int = 0) -> list[np.ndarray]:
    """Features of n images."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=2048).astype(np.float32) for _ in range(n)]


def entries(suite: MetricSuite, n: int = 12, hats: list | None = None, **settings: str) -> dict:
    """What a suite says of n images with made-up figures and features, two images a group."""
    rows = [dict.fromkeys(METRICS, 1.0 + i) | {"ms_ssim_window": 7.0} for i in range(n)]
    groups = [f"g{i // 2}" for i in range(n)]
    return suite.summarise(rows, groups, vectors(n), vectors(n, 1) if hats is None else hats, **settings)


def test_psnr_closed_form(suite):
    x = np.full((16, 16, 3), 100, np.uint8)
    x_hat = x.copy()
    x_hat[:4, :, 0] = 110  # a twelfth of the values is off by ten
    assert measured(suite, x, x_hat)["psnr"] == pytest.approx(10 * math.log10(255**2 / (100 / 12)), abs=1e-9)
    wrap = x.copy()
    wrap[...] = 90  # 90 - 100 must not wrap around in uint8
    assert measured(suite, x, wrap)["psnr"] == pytest.approx(20 * math.log10(25.5), abs=1e-9)


@pytest.mark.parametrize("size", [(16, 16), (65, 257), (128, 256)])
def test_ssim_equals_scikit_image(suite, size):
    from skimage.metrics import structural_similarity

    x = photograph(*size)
    x_hat = noisy(jpeg(x, 20), 4)
    expected = structural_similarity(
        x, x_hat, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    row = measured(suite, x, x_hat)
    assert row["ssim"] == pytest.approx(expected, abs=2e-5)
    assert row.keys() >= {"psnr", "ssim", "cvvdp"} and all(math.isfinite(value) for value in row.values())


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
    row = measured(suite, x, x_hat)
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
    rows = [measured(suite, photograph(h), noisy(photograph(h), 2 + i)) for i, h in enumerate(heights)]
    assert [i for i, row in enumerate(rows) if "ms_ssim_db" in row] == [1, 2, 3]
    result = summary_of(suite, rows, groups)
    entry = result["ms_ssim_db"]
    assert entry["mean"] == pytest.approx(np.mean([rows[i]["ms_ssim_db"] for i in (1, 2, 3)]))
    assert entry["ci95"] == pytest.approx(ClusterBootstrap(list("abc")).mean([r["ms_ssim_db"] for r in rows[1:4]]))
    assert (entry["n"], entry["of"], entry["groups"], entry["window"]) == (3, 5, 3, [7, 11])
    assert "2 of 5 images have no value" in entry["left_out"] and "97 pixels" in entry["left_out"]
    assert result["psnr"]["n"] == 5 and "of" not in result["psnr"]


def test_a_metric_that_no_image_has_is_unavailable_with_the_reason(suite):
    rows = [measured(suite, photograph(96), noisy(photograph(96), 5))] * 2
    entry = summary_of(suite, rows, ["a", "b"])["ms_ssim_db"]
    assert set(entry) == {"unavailable"}
    assert "2 of 2" in entry["unavailable"] and "97 pixels" in entry["unavailable"]


@pytest.mark.parametrize("levels", [(0, 1), (0, 4), (252, 256)], ids=["black", "dark", "white"])
def test_dark_and_bright_images_are_measured_without_a_word(suite, levels, caplog):
    rng = np.random.default_rng(0)
    x, x_hat = (rng.integers(*levels, (128, 128, 3)).astype(np.uint8) for _ in range(2))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        row = measured(suite, x, x_hat)
    assert set(row) == {"psnr", "ssim", "ms_ssim_db", "ms_ssim_window", "cvvdp"}
    assert not caplog.records and not warned


def test_identical_images(suite):
    x = photograph()
    row = measured(suite, x, x.copy())
    assert row["psnr"] == 100 and row["ms_ssim_db"] == 50 and row["cvvdp"] == 10
    assert row["ssim"] == pytest.approx(1, abs=1e-6)


def test_a_value_that_is_not_finite_counts_as_none(monkeypatch):
    suite = MetricSuite(["psnr", "ssim"])

    class Failing:
        min_side = 11

        def __call__(self, *_: object) -> list[float]:
            return [0.5, math.nan, 0.7, math.inf]

    monkeypatch.setitem(suite._image, "ssim", Failing())
    rows = suite.measure(photograph(16, 16), [photograph(16, 16)] * 4)
    entry = summary_of(suite, rows, list("abcd"))["ssim"]
    assert entry["mean"] == pytest.approx(0.6) and (entry["n"], entry["of"]) == (2, 4)
    assert "finite" in entry["left_out"]


def test_psnr_of_a_set_is_the_mean_of_psnrs_not_the_psnr_of_the_mean(suite):
    x = photograph()
    hats = [noisy(x, 2), noisy(x, 20)]
    errors = [np.mean((x.astype(float) - x_hat) ** 2) for x_hat in hats]
    mean = summary_of(suite, suite.measure(x, hats), ["a", "b"])["psnr"]["mean"]
    assert mean == pytest.approx(np.mean([10 * math.log10(255**2 / error) for error in errors]), abs=1e-6)
    assert abs(mean - 10 * math.log10(255**2 / np.mean(errors))) > 3


def test_reconstructions_measured_together_have_the_figures_of_each_alone(suite):
    x = photograph()
    hats = [jpeg(x, 10 * i + 5) for i in range(6)]  # more than one batch
    for together, x_hat in zip(suite.measure(x, hats), hats, strict=True):
        assert together == pytest.approx(measured(suite, x, x_hat), rel=1e-6)


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_a_set_of_too_few_images_is_a_sentence_and_of_enough_a_finite_number(name):
    for n in (1, 2, MIN_IMAGES - 1, MIN_IMAGES):
        entry = summarise_set(name, vectors(n), vectors(n, 1), ClusterBootstrap(["a"] * n))
        if n < MIN_IMAGES:
            assert set(entry) == {"unavailable"}
            assert f"n is {n}" in entry["unavailable"] and "evaluate more" in entry["unavailable"]
        else:
            assert math.isfinite(entry["value"]) and entry["n"] == n


def test_features_that_are_missing_or_not_finite_are_a_sentence():
    bootstrap = ClusterBootstrap([str(i) for i in range(12)])
    for broken, why in ((None, "not stored"), (np.full(2048, np.nan), "not finite")):
        assert why in summarise_set("fid", vectors(12), [broken, *vectors(11)], bootstrap)["unavailable"]


def test_set_metrics_state_what_they_are():
    bootstrap = ClusterBootstrap([f"g{i // 2}" for i in range(12)])
    fid, kid = (summarise_set(name, vectors(12), vectors(12, 1), bootstrap) for name in ("fid", "kid"))
    assert fid["n"] == kid["n"] == kid["subset_size"] == 12 and kid["groups"] == 6
    assert kid["ci95"][0] <= kid["value"] <= kid["ci95"][1]
    assert fid["halves"]["n"] == 6 and "ci95" not in fid
    same = summarise_set("fid", vectors(12), vectors(12), bootstrap)
    assert same["value"] == pytest.approx(0, abs=1e-6) == same["halves"]["value"]
    assert same["halves"]["originals"] == fid["halves"]["originals"] > 1000


def test_without_weights_metrics_are_unavailable_at_once_and_never_dropped(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    suite = MetricSuite(["psnr", *NEED_WEIGHTS])
    assert set(measured(suite, photograph(), noisy(photograph(), 5))) == {"psnr"}
    assert suite.features([photograph()]) == [None]
    result = entries(suite)
    assert list(result) == suite.names and {*OFFLINE, *NEED_WEIGHTS} == set(METRICS)
    for name in NEED_WEIGHTS:
        assert set(result[name]) == {"unavailable"} and "fetch_weights.py" in result[name]["unavailable"]


def test_a_metric_on_the_network_of_the_training_loss_says_that_it_does_not_judge(tmp_path, monkeypatch):
    """LPIPS-VGG as a loss disqualifies both metrics on VGG16; EfficientNet disqualifies none."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    suite = MetricSuite()
    for loss, noted in (("lpips_vgg", ["lpips_vgg", "dists"]), ("effnet", [])):
        result = entries(suite, trained_on=NETWORKS[loss])
        assert [name for name in result if "note" in result[name]] == noted


def test_a_missing_package_makes_its_metric_unavailable(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycvvdp", None)
    suite = MetricSuite(["psnr", "cvvdp"])
    assert "pycvvdp" in suite.unavailable["cvvdp"] and "pip install" in suite.unavailable["cvvdp"]
    assert set(measured(suite, photograph(), photograph())) == {"psnr"}


def test_wrong_input_is_refused(suite):
    x = photograph()
    for bad in (x.astype(np.float32) / 255, x[..., 0], x[:64]):
        with pytest.raises(ValueError):
            measured(suite, x, bad)
    with pytest.raises(ConfigError, match=r"no metric lpips_squeeze; choose from psnr, .*lpips_alex"):
        MetricSuite(["psnr", "lpips_squeeze"])
