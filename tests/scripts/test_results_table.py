"""The tables of the documents: which rows, columns and tables the options choose."""

import json

import pytest


def point(codec, rate, **other):
    metrics = {"psnr": {"mean": 20 + rate, "ci95": [19.0, 22.0]}, "fid": {"unavailable": "no weights"}}
    decoding = {"side": "correct", "steps": 1, "gamma": 0.25, "bpp_estimated": 0.1}
    if codec != "ours":
        decoding = dict.fromkeys(decoding)
    return {"codec": codec, "rate": rate, "bpp": 0.125, "metrics": metrics, **decoding, **other}


@pytest.mark.parametrize(
    ("points", "options", "lines"),
    [
        (
            [point("ours", 0.5), point("avif", 0.13)],
            "--metrics psnr fid",
            [
                "| method | rate | side image | bpp | psnr | fid |",
                "|---|---|---|---|---|---|",
                "| ours | 0.5 | correct | 0.1250 | 20.5 [19, 22] | - |",
                "| avif | 0.13 |  | 0.1250 | 20.13 [19, 22] | - |",
            ],
        ),
        (
            [point("ours", 0.5), point("ours", 0.5, gamma=1.0), point("jpeg", 0.2), point("avif", 0.13)],
            "--metrics psnr --codecs ours jpeg --no-intervals",
            [
                "| method | rate | gamma | side image | bpp | psnr |",
                "|---|---|---|---|---|---|",
                "| ours | 0.5 | 0.25 | correct | 0.1250 | 20.5 |",
                "| ours | 0.5 | 1 | correct | 0.1250 | 20.5 |",
                "| jpeg | 0.2 |  |  | 0.1250 | 20.2 |",
            ],
        ),
    ],
    ids=["metrics", "codecs, and settings of decoding that differ"],
)
def test_rows_columns_and_intervals_are_chosen(command, tmp_path, points, options, lines):
    dataset = {"name": "folder", "split": "val", "size": "protocol", "pairs": 3, "groups": 2}
    (tmp_path / "summary.json").write_text(json.dumps({"dataset": dataset, "points": points}))
    status, out, _ = command("results_table", tmp_path / "summary.json", "--only", "points", *options.split())
    assert status == 0
    assert out.splitlines() == ["folder, split val, size protocol, 3 pairs, 2 groups.", "", *lines]


def test_the_number_of_images_stands_beside_fid_and_a_dagger_has_its_footnote(command, tmp_path):
    halves = {"n": 18, "value": 45.8, "originals": 134.0}
    metrics = {"dists": {"mean": 0.1, "note": "Trained on it."}, "fid": {"value": 42.0, "n": 36, "halves": halves}}
    dataset = {"name": "folder", "split": "val", "size": "protocol", "pairs": 3, "groups": 2}
    (tmp_path / "summary.json").write_text(
        json.dumps({"dataset": dataset, "points": [point("ours", 0.5, metrics=metrics)]})
    )
    _, out, _ = command("results_table", tmp_path / "summary.json", "--only", "points", "--metrics", "dists", "fid")
    lines = out.splitlines()
    assert lines[2] == "| method | rate | side image | bpp | dists | fid (n = 36) |"
    assert lines[4] == "| ours | 0.5 | correct | 0.1250 | 0.1 † | 42 |"
    assert "FID is of n = 36 images and can be compared with nothing but FIDs of the same images" in lines[6]
    assert "18 images each, are 134.0 apart" in lines[6]
    assert lines[8] == "† Trained on it."
