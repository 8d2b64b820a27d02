"""The tables of the documents: which rows, columns and tables the options choose."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from script_files import load_script


def point(codec: str, rate: float, **other: Any) -> dict[str, Any]:
    metrics = {"psnr": {"mean": 20 + rate, "ci95": [19.0, 22.0]}, "fid": {"unavailable": "no weights"}}
    model = {"side": "correct", "steps": 1, "gamma": 0.25, "bpp_estimated": 0.1}
    anchor = {"side": None, "steps": None, "gamma": None, "bpp_estimated": None}
    return {
        "codec": codec,
        "rate": rate,
        "bpp": 0.125,
        "metrics": metrics,
        **(model if codec == "ours" else anchor),
        **other,
    }


def printed(
    points: list[dict[str, Any]], options: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> list[str]:
    dataset = {"name": "folder", "split": "val", "size": "protocol", "pairs": 3, "groups": 2}
    path = folder / "summary.json"
    path.write_text(json.dumps({"dataset": dataset, "points": points}))
    monkeypatch.setattr(sys, "argv", ["results_table", str(path), "--only", "points", *options.split()])
    load_script("results_table").main()
    return capsys.readouterr().out.splitlines()


def test_rows_columns_and_intervals_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [point("ours", 0.5), point("avif", 0.13)]
    lines = printed(points, "--metrics psnr fid", tmp_path, monkeypatch, capsys)
    assert lines == [
        "folder, split val, size protocol, 3 pairs, 2 groups.",
        "",
        "| method | rate | side image | bpp | psnr | fid |",
        "|---|---|---|---|---|---|",
        "| ours | 0.5 | correct | 0.1250 | 20.5 [19, 22] | - |",
        "| avif | 0.13 |  | 0.1250 | 20.13 [19, 22] | - |",
    ]
    lines = printed(points, "--metrics psnr --codecs ours --no-intervals", tmp_path, monkeypatch, capsys)
    assert lines[4:] == ["| ours | 0.5 | correct | 0.1250 | 20.5 |"]


def test_settings_of_decoding_have_columns_where_they_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [point("ours", 0.5), point("ours", 0.5, gamma=1.0), point("jpeg", 0.2)]
    lines = printed(points, "--metrics psnr --no-intervals", tmp_path, monkeypatch, capsys)
    assert lines[2] == "| method | rate | gamma | side image | bpp | psnr |"
    assert lines[4:] == [
        "| ours | 0.5 | 0.25 | correct | 0.1250 | 20.5 |",
        "| ours | 0.5 | 1 | correct | 0.1250 | 20.5 |",
        "| jpeg | 0.2 |  |  | 0.1250 | 20.2 |",
    ]


def test_the_number_of_images_stands_beside_fid_and_a_dagger_has_its_footnote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = {"n": 18, "value": 45.8, "originals": 134.0}
    metrics = {"dists": {"mean": 0.1, "note": "Trained on it."}, "fid": {"value": 42.0, "n": 36, "halves": halves}}
    points = [point("ours", 0.5, metrics=metrics)]
    lines = printed(points, "--metrics dists fid", tmp_path, monkeypatch, capsys)
    assert lines[2] == "| method | rate | side image | bpp | dists | fid (n = 36) |"
    assert lines[4] == "| ours | 0.5 | correct | 0.1250 | 0.1 † | 42 |"
    assert "FID is of n = 36 images and can be compared with nothing but FIDs of the same images" in lines[6]
    assert "18 images each, are 134.0 apart" in lines[6]
    assert lines[8] == "† Trained on it."
