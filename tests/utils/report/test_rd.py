"""Curves and Bjontegaard differences: closed forms, signs, guards, plots."""

from typing import Any

import pytest

from utils.report.bd import bjontegaard, differences
from utils.report.rd import Curve, count_of, counts_of, curves, metrics_of, value_at

BPP = (0.1, 0.15, 0.22, 0.3, 0.42)
DB = (24.0, 25.2, 26.5, 27.4, 28.6)


def curve(bpp: tuple[float, ...], values: tuple[float, ...], codec: str = "ours") -> Curve:
    side = None if codec in ("jpeg", "webp", "avif") else "correct"
    return Curve(codec, side, "", bpp, values, (None,) * len(bpp))


def point(codec: str, bpp: float, psnr: float, **fields: Any) -> dict[str, Any]:
    decoding = {"checkpoint": "ckpt", "steps": 1, "gamma": 0.0, "side": "correct", "bpp_estimated": bpp / 1.02}
    if codec in ("jpeg", "webp", "avif"):
        decoding = dict.fromkeys(decoding)
    metrics = {
        "psnr": {"mean": psnr, "ci95": [psnr - 0.5, psnr + 0.5], "n": 4, "groups": 2},
        "dists": {"unavailable": "no weights: fetch them"},
        "kid": {"value": 1 / psnr, "n": 4},
    }
    times = {"encode_ms": 10.0, "decode_ms": 20.0}
    return {"codec": codec, "lambda": None, "rate": 0.5, "bpp": bpp, "metrics": metrics, **decoding, **times, **fields}


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25])
def test_a_constant_factor_of_rate_is_the_bd_rate(factor: float) -> None:
    test = curve(tuple(factor * b for b in BPP), DB)
    assert bjontegaard(curve(BPP, DB, "webp"), test, "psnr").rate == pytest.approx(100 * (factor - 1))


def test_for_a_distance_lower_is_better() -> None:
    reference = tuple(0.5 - 0.01 * v for v in DB)
    test = tuple(v - 0.02 for v in reference)
    found = bjontegaard(curve(BPP, reference, "webp"), curve(BPP, test), "lpips_alex")
    assert found.quality == pytest.approx(-0.02)
    assert found.rate is not None and found.rate < 0


@pytest.mark.parametrize(
    ("bpp", "values", "why_rate", "why_quality"),
    [
        (BPP[:3], DB[:3], "3 points", "3 points"),
        (BPP, tuple(v + 10 for v in DB), "share no quality", ""),
        (tuple(b * 10 for b in BPP), DB, "", "share no rate"),
        (BPP, tuple(v + 4 for v in DB), "only 13% of their quality", ""),
        (BPP, (24.0, 25.0, 24.5, 27.0, 28.0), "does not rise", ""),
        ((0.1, 0.1, 0.2, 0.3, 0.4), DB, "same rate", "same rate"),
        (BPP, (24.0, 25.0, float("nan"), 27.0, 28.0), "not finite", "not finite"),
    ],
)
def test_what_cannot_be_compared_has_a_reason(bpp, values, why_rate, why_quality):
    found = bjontegaard(curve(BPP, DB, "webp"), curve(bpp, values), "psnr")
    assert why_rate in found.reason_rate and (found.rate is None) == bool(why_rate)
    assert why_quality in found.reason_quality and (found.quality is None) == bool(why_quality)


def test_points_become_curves_by_codec_and_decoding() -> None:
    points = [
        point("dicm", 0.3, 27, **{"lambda": 0.01, "rate": None, "checkpoint": "a"}),
        point("dicm", 0.1, 24, **{"lambda": 0.001, "rate": None, "checkpoint": "b"}),
        point("dicm", 0.1, 20, side="none"),
        point("webp", 0.2, 25),
        point("dicm", 0.2, 26, gamma=1.0),
    ]
    found = curves(points, "psnr")
    assert [(c.label, c.bpp, c.values) for c in found] == [
        ("dicm, gamma 0", (0.1, 0.3), (24, 27)),
        ("dicm, gamma 0, side none", (0.1,), (20,)),
        ("WebP", (0.2,), (25,)),
        ("dicm, gamma 1", (0.2,), (26,)),
    ]
    assert found[0].intervals == ((23.5, 24.5), (26.5, 27.5))
    assert curves(points, "dists") == []
    assert [info.name for info in metrics_of(points)] == ["psnr", "kid"]


def of_some(codec: str, n: int = 3) -> list[dict[str, Any]]:
    """The points of a curve whose PSNR is over `n` of 5 images, which have twice the rate of all."""
    points = [point(codec, b, v) for b, v in zip(BPP, DB, strict=True)]
    for p in points:
        p["metrics"]["psnr"] |= {"n": n, "of": 5, "bpp": 2 * p["bpp"]}
    return points


def test_a_curve_over_some_images_has_the_rate_of_these_and_their_number() -> None:
    points = of_some("ours")
    assert count_of(points[0]["metrics"]["psnr"]) == counts_of(points, "psnr") == " (3 of 5)"
    assert count_of(points[0]["metrics"]["kid"]) == counts_of(points, "kid") == ""
    psnr, kd = curves(points, "psnr")[0], curves(points, "kid")[0]
    assert psnr.bpp == tuple(2 * b for b in BPP) and psnr.counts == (" (3 of 5)",) * 5
    assert kd.bpp == BPP and kd.counts == ("",) * 5


def test_a_difference_says_how_many_images_it_is_over_and_is_refused_where_curves_differ_in_that() -> None:
    same = {d.metric: d for d in differences([*of_some("ours"), *of_some("webp")])}
    assert same["psnr"].rate == pytest.approx(0, abs=1e-9) and same["psnr"].count == " (3 of 5)"
    assert same["kid"].count == ""
    mixed = of_some("ours")
    mixed[2] = of_some("ours", n=4)[2]
    for ours, webp in ((of_some("ours", n=4), of_some("webp")), (mixed, of_some("webp"))):
        (found,) = [d for d in differences([*ours, *webp]) if d.metric == "psnr"]
        assert found.rate is None and found.quality is None
        assert found.reason_rate == found.reason_quality == "the points are means over different numbers of images"


def test_every_metric_is_compared_with_every_anchor_and_with_our_other_curve() -> None:
    points = [
        point(codec, factor * b, v)
        for codec, factor in (("old", 1.0), ("new", 0.9), ("webp", 1.5))
        for b, v in zip(BPP, DB, strict=True)
    ]
    found = {(d.metric, d.test, d.reference): d.rate for d in differences(points)}
    assert set(found) == {
        (metric, *names) for metric in ("psnr", "kid") for names in (("old", "WebP"), ("new", "WebP"), ("new", "old"))
    }
    assert found["psnr", "new", "old"] == pytest.approx(-10)
    assert found["psnr", "new", "WebP"] == pytest.approx(-40)
    # 1 / dB falls as quality rises: the same equivalences in rate.
    assert found["kid", "new", "WebP"] == pytest.approx(-40)
    shifted = differences([*points, *(point("old", 2 * b, v, side="shift:4") for b, v in zip(BPP, DB, strict=True))])
    more = {(d.test, d.reference): d.rate for d in shifted if d.metric == "psnr" and "shift" in d.test}
    assert more == {("old, side shift:4", "old"): pytest.approx(100)}, "against the method itself alone"


def test_a_figure_at_a_rate_lies_between_points_and_never_beyond_them() -> None:
    found = curve(BPP, DB)
    assert value_at(found, 0.15) == 25.2 and value_at(found, (0.1 * 0.15) ** 0.5) == pytest.approx((24 + 25.2) / 2)
    assert value_at(found, 0.09) is None and value_at(found, 0.43) is None
