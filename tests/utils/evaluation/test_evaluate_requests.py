"""What can be asked of an evaluation: side variants, plans of points, anchors."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_files import options, summary_of, write_split, write_untrained
from image_files import noise
from PIL import Image

from config import Config, MixConfig
from data.sources import open_source
from utils.errors import ConfigError
from utils.evaluation import anchors, vvc
from utils.evaluation.coders import ModelCoder
from utils.evaluation.container import container_bytes
from utils.evaluation.pipeline import evaluate
from utils.evaluation.plan import Request, describe_models, plan_points
from utils.evaluation.side import SideImages, distort, fit, parse_sides, shuffle

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("groups", [list("aabbc"), list("abcdef"), list("aaabbb"), list("abcab") * 7])
def test_shuffling_is_a_fixed_permutation_that_leaves_the_group(groups: list[str]) -> None:
    partner = shuffle(groups)
    assert sorted(partner) == list(range(len(groups)))
    assert all(groups[i] != groups[j] for i, j in enumerate(partner))
    assert partner == shuffle(list(groups))
    assert len(groups) < 30 or partner != shuffle(groups, seed=1)


@pytest.mark.parametrize("groups", [["a"], ["a", "a"], ["a", "a", "b"]])
def test_an_impossible_shuffle_is_a_sentence(groups: list[str]) -> None:
    with pytest.raises(ConfigError, match="another group"):
        shuffle(groups)


def test_side_variants(evaluation_data: Path) -> None:
    source = open_source("folder", split="val", root=evaluation_data)
    sides, pair = SideImages(source), source[0]
    assert sides.get("none", 0, pair) is None
    assert sides.get("correct", 0, pair) is pair.x_side
    other = sides.get("shuffled", 0, pair)
    assert other is not None and any(np.array_equal(other, source[i].x_side) for i in (2, 3, 4))
    lossy = [sides.get(f"jpeg:{q}", 0, pair) for q in (10, 90)]
    errors = [np.abs(image.astype(int) - pair.x_side).mean() for image in lossy if image is not None]
    assert errors[0] > errors[1] > 0


def test_a_side_image_of_another_size_is_fitted_without_scaling() -> None:
    image = noise(20, 30)
    fitted = fit(image, 16, 34)
    assert fitted.shape == (16, 34, 3)
    assert np.array_equal(fitted[:, 2:32], image[2:18])
    assert np.array_equal(fitted[:, 0], image[2:18, 0]) and np.array_equal(fitted[:, 33], image[2:18, 29])


def test_distorted_side_images() -> None:
    image = noise(8, 10)
    down, up = distort(image, "shift:2"), distort(image, "shift:-1")
    assert np.array_equal(down[2:], image[:-2]) and (down[:2] == image[0]).all()
    assert np.array_equal(up[:-1], image[1:]) and np.array_equal(up[-1], image[-1])
    codes = np.array([[[0, 100, 254]]], np.uint8)
    assert distort(codes, "light:-30").tolist() == [[[0, 70, 178]]]
    assert distort(codes, "light:10").tolist() == [[[0, 110, 255]]]
    half = distort(image, "occluded:50")
    assert np.array_equal(half[:, :5], image[:, :5]) and (half[:, 5:] == 128).all()
    assert np.array_equal(distort(image, "occluded:0"), image)


def test_side_images_are_sorted_each_once_in_one_spelling() -> None:
    given = ["light:+10", "shift:2", "jpeg:030", "light:-10", "none", "light:10", "correct"]
    assert parse_sides(given) == ["correct", "none", "jpeg:30", "shift:2", "light:-10", "light:10"]


BAD_SIDES = (
    *("wrong", "jpeg", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:high", "jpeg:-5", "", "none:1", "shift:0.5"),
    *("shift:65", "light:101", "occluded:-1", "shift:\u0664"),
)


@pytest.mark.parametrize("text", BAD_SIDES)
def test_unknown_side_images_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--side") as caught:
        parse_sides(["correct", text])
    assert "\n" not in str(caught.value)


def test_single_pictures_are_decoded_without_a_side_image(ckpt, tmp_path, quick):
    for name, height in (("a", 64), ("b", 96)):
        (tmp_path / "photos/val").mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(height, 64)).save(tmp_path / f"photos/val/{name}.png")
    asked = options(ckpt, tmp_path / "out", dataset="photos", data_root=str(tmp_path / "photos"), rates=(0.5,))
    evaluate(asked)
    points = summary_of(tmp_path / "out")["points"]
    assert {p["side"] for p in points if p["codec"] == "ours"} == {"none"} and points[0]["metrics"]["psnr"]["n"] == 2
    asked.side = ["correct"]
    with pytest.raises(ConfigError, match="photos have no side images"):
        evaluate(asked)


def test_a_model_of_a_mixture_is_evaluated_where_its_training_validated(tiny: Config, tmp_path, quick):
    root = write_split(tmp_path / "DIR" / "town", "val", ["a", "b"])
    data = replace(tiny.data, dataset="folder", root=str(tmp_path / "DIR"), val=(MixConfig("town", "folder", "town"),))
    ckpt = write_untrained(tmp_path / "model", replace(tiny, data=data))
    evaluate(options(ckpt, tmp_path / "out", rates=(0.5,), side=["correct"], anchors=("none",)))
    settings = json.loads((tmp_path / "out" / "work" / "settings.json").read_text())
    assert settings["data_root"] == str(root.resolve())


def test_every_side_image_is_a_curve_of_the_same_files(ckpt, tmp_path, quick, monkeypatch):
    sides, made = ["correct", "none", "jpeg:10", "shift:4", "light:-30", "occluded:50"], list[float | None]()
    encode = ModelCoder.encode
    monkeypatch.setattr(ModelCoder, "encode", lambda self, x, p: (made.append(p.rate), encode(self, x, p))[1])
    evaluate(options(ckpt, tmp_path, rates=(0.0, 1.0), side=sides[::-1], anchors=("none",), limit=2))
    assert made == [0, 0, 1, 0, 1]  # once to warm up
    points = summary_of(tmp_path)["points"]
    assert [(p["side"], p["rate"]) for p in points] == [(side, rate) for side in sides for rate in (0, 1)]
    assert all(len({p["bpp"] for p in points if p["rate"] == rate}) == 1 for rate in (0, 1))
    assert len({p["metrics"]["psnr"]["mean"] for p in points}) == len(points)
    report = (tmp_path / "report.html").read_text()
    assert all(f">{side}<" in report for side in sides)


def test_fixed_rate_models_give_a_point_each_and_one_curve(tiny: Config, tmp_path: Path) -> None:
    paths = []
    for lmbda in (0.02, 0.001, 0.005):
        config = replace(tiny, name=f"fixed{lmbda}", loss=replace(tiny.loss, lmbda=lmbda))
        paths.append(str(write_untrained(tmp_path / str(lmbda), config, variable_rate=False)))
    models = describe_models(paths)
    assert len({model.label for model in models}) == 1
    points, notes = plan_points(models, Request(), list("aabb"))
    assert [(p.lmbda, p.side) for p in points] == [
        *((lmbda, "correct") for lmbda in (0.001, 0.005, 0.02)),
        (0.005, "none"),
        (0.005, "shuffled"),
    ]
    assert all(p.rate is None for p in points) and not notes
    assert len({p.key for p in points}) == 5
    with pytest.raises(ConfigError, match="fixed-rate"):
        plan_points(models, Request(rates=(0.5,)), list("aabb"))


def test_models_of_one_rate_each_give_one_curve(tiny: Config, tmp_path: Path) -> None:
    """Variable-rate in form: each is evaluated at the rate it was trained for, and one of a range at that range."""
    paths = []
    for rates in ((0.6, 0.6), (0.2, 0.2), (0.25, 0.75), (0.0, 1.0)):
        config = replace(tiny, name=f"from{rates[0]}", loss=replace(tiny.loss, rates=rates))
        paths.append(str(write_untrained(tmp_path / str(rates[0]), config)))
    models = describe_models(paths)
    assert models[0].label == models[1].label and len({model.label for model in models}) == 3
    points, notes = plan_points(models, Request(side=["correct"]), list("aabb"))
    assert [p.rate for p in points] == [0.2, 0.6, 0.25, 0.375, 0.5, 0.625, 0.75, 0, 0.25, 0.5, 0.75, 1] and not notes
    assert [p.checkpoint for p in points[:3]] == [paths[1], paths[0], paths[2]]
    assert len({p.key for p in points}) == len(points)
    assert [p.rate for p in plan_points(models[:1], Request(rates=(0.1, 0.9)), list("aabb"))[0]][:2] == [0.1, 0.9]
    with pytest.raises(ConfigError, match=r"--rates does not apply to .* shares a curve"):
        plan_points(models[:2], Request(rates=(0.1, 0.9)), list("aabb"))


def test_models_that_differ_in_more_than_lambda_are_curves_of_their_own(tiny: Config, tmp_path: Path) -> None:
    paths = [
        str(write_untrained(tmp_path / name, replace(tiny, name=name), fusion=fusion))
        for name, fusion in (("one", "add"), ("two", "both"), ("three", "none"))
    ]
    models = describe_models(paths)
    assert [model.label for model in models] == ["ours (one)", "ours (two)", "ours_no_side"]
    points, _ = plan_points(models, Request(rates=(0.0, 1.0)), list("aabb"))
    assert {p.side for p in points if p.codec == "ours_no_side"} == {"none"}
    assert len({p.key for p in points}) == len(points) == 4 + 4 + 2
    with pytest.raises(ConfigError, match="twice"):
        describe_models([paths[0], paths[0]])


def test_a_model_without_side_dropout(tiny: Config, tmp_path: Path) -> None:
    models = describe_models([str(write_untrained(tmp_path / "strict", tiny, side_dropout=0.0))])
    points, notes = plan_points(models, Request(), list("aabb"))
    assert "none" not in {p.side for p in points}
    assert any("side dropout" in note for note in notes)
    with pytest.raises(ConfigError, match="side dropout"):
        plan_points(models, Request(side=["correct", "none"]), list("aabb"))


def test_a_model_of_stage_1_has_no_gamma(tiny: Config, tmp_path: Path) -> None:
    still = replace(tiny, diffusion=replace(tiny.diffusion, start_fraction=1.0, denoise_fraction=0.0))
    models = describe_models([str(write_untrained(tmp_path / "still", still))])
    assert plan_points(models, Request(gamma=[0.0]), list("aabb"))[0]
    with pytest.raises(ConfigError, match=r"--gamma does not apply .* denoiser has not been trained"):
        plan_points(models, Request(gamma=[0.0, 0.5]), list("aabb"))
    with pytest.raises(ValueError, match="denoiser has not been trained"):
        models[0].codec.decompress(b"", None, gamma=0.5)


def test_one_group_leaves_the_shuffled_point_out_with_a_note(ckpt: Path, tmp_path: Path, quick: None) -> None:
    evaluate(options(ckpt, tmp_path / "out", rates=(0.5,), anchors=("none",), limit=2))
    summary = summary_of(tmp_path / "out")
    assert [p["side"] for p in summary["points"]] == ["correct", "none"]
    assert "one group" in summary["environment"]["notes"][0]
    assert summary["points"][0]["metrics"]["psnr"]["ci95"] is None
    assert "one group" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("name", anchors.NAMES)
def test_anchors_are_real_files(name: str) -> None:
    if anchors.unavailable(name):
        pytest.skip(str(anchors.unavailable(name)))
    image = np.kron(noise(8, 16), np.ones((8, 8, 1), np.uint8))
    small, large = (anchors.encode(name, image, quality) for quality in (5, 80))
    assert len(small) < len(large)
    if name == "vvc":
        assert large.startswith(vvc.START)
    else:
        with Image.open(io.BytesIO(large)) as picture:
            assert (picture.format or "").lower() == {"heic": "heif"}.get(name, name)
    errors = [np.square(anchors.decode(data).astype(float) - image).mean() for data in (small, large)]
    assert errors[1] < errors[0]
    red = np.full((33, 65, 3), (200, 40, 90), np.uint8)
    decoded = anchors.decode(anchors.encode(name, red, 80))[:33, :65]  # VVC codes even sizes
    assert decoded.shape == red.shape and np.abs(decoded.astype(int) - red).max() <= 8


@pytest.mark.parametrize("name", anchors.NAMES)
def test_container_bytes_are_the_same_for_every_picture(name: str) -> None:
    if anchors.unavailable(name):
        pytest.skip(str(anchors.unavailable(name)))
    files = [anchors.encode(name, np.kron(noise(8, 16, s), np.ones((8, 8, 1), np.uint8)), 30) for s in range(3)]
    container = [container_bytes(name, data) - (len(data) % 2 if name == "webp" else 0) for data in files]
    assert len({len(data) for data in files}) > 1 and len(set(container)) == 1
    assert (0 < container[0] < min(map(len, files))) == (name != "jxl")


@pytest.mark.slow
@pytest.mark.parametrize("name", anchors.NAMES)
def test_qualities_cover_the_rates_asked_for(name: str, evaluation_data: Path) -> None:
    if anchors.unavailable(name):
        pytest.skip(str(anchors.unavailable(name)))
    source = open_source("folder", split="val", root=evaluation_data)
    images = [np.tile(source[i].x, (2, 4, 1)) for i in range(2)]
    qualities = anchors.choose_qualities(name, images, 0.3, 1.2)
    assert qualities == sorted(set(qualities)) and 4 <= len(qualities) <= anchors.POINTS
    bpp = [
        np.mean([8 * len(anchors.encode(name, i, q)) / (i.shape[0] * i.shape[1]) for i in images]) for q in qualities
    ]
    assert bpp[0] < 0.5 and bpp[-1] > 0.9


def test_an_anchor_that_is_not_installed_is_said(ckpt, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(anchors.features, "check", lambda name: name != "avif")
    monkeypatch.setattr(anchors, "find_spec", lambda name: None)
    evaluate(options(ckpt, tmp_path / "out", rates=(0.5,), side=("correct",), anchors=("avif", "jxl"), limit=1))
    summary = summary_of(tmp_path / "out")
    assert [p["codec"] for p in summary["points"]] == ["ours"]
    avif, jxl = summary["environment"]["notes"]
    assert "AVIF was not measured" in avif and "JPEG XL was not measured" in jxl
    assert "pip install --upgrade pillow-jxl-plugin" in jxl
