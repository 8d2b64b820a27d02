"""The load test: a short run of it, and its checks see what is lost, half-written, altered, left running or growing."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation_files import write_untrained
from image_files import encode, write
from tiny import smooth_pair, untrained_codec

from config import Config
from modules.codec import Codec
from scripts.stress import load_check
from scripts.stress.load_check import (
    Ended,
    Load,
    Sample,
    Stage,
    Strike,
    check_end,
    check_files,
    check_folder,
    check_pictures,
    leave_halves,
    quarters,
    watch,
)
from utils.images import to_uint8
from utils.resident import group_members

ROOT = Path(__file__).resolve().parents[2]
FAMILY = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
for number in range(3):
    pathlib.Path(sys.argv[1], f"{number}.out").touch()
    time.sleep(0.02)
time.sleep(60)
"""
BATCH = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from copy_task import Copy
from utils.coding.batch import Job, keep_settings, run_batch
if __name__ == "__main__":
    root = Path(sys.argv[1])
    jobs = [Job(path, path.with_suffix(".out")) for path in sorted(root.glob("*.in"))]
    run_batch(Copy(keep_settings(root / "settings", "s.json", {})), jobs, 2, root)
"""


@pytest.mark.slow
def test_a_short_run_loses_nothing(tmp_path: Path, tiny: Config) -> None:
    ckpt = write_untrained(tmp_path / "ckpt", tiny)
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "scripts" / "stress" / "load_test.py"), "--ckpt", str(ckpt), "--pairs", "24"),
            *("--bad", "3", "--height", "96", "--width", "128", "--interval", "0.02", "--check", "5"),
            *("--work", str(tmp_path / "work"), "--out", str(tmp_path / "load.md")),
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["compress"]["outputs"], result["compress"]["bad"]) == (23, 1)
    assert (result["decompress"]["outputs"], result["decompress"]["bad"]) == (21, 2)
    for part in ("compress", "decompress"):
        assert len(result[part]["killed_at"]) == 2 and not result[part]["failures"]
        # On a busy machine the second kill may come after the last output.
        assert 0 < result[part]["kept"] <= result[part]["outputs"] and result[part]["compared"] >= 5
    assert len(list((tmp_path / "work" / "pictures").glob("*.png"))) == 21
    assert "| decompress | 21 | 2 |" in (tmp_path / "load.md").read_text()


def counter(folder: Path) -> Callable[[], int]:
    return lambda: len(list(folder.glob("*.out")))


@pytest.mark.parametrize("main_only", [False, True])
def test_a_killed_command_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main_only: bool) -> None:
    """The child of FAMILY outlives a kill of its parent alone: that is told, and then it ends too."""
    monkeypatch.setattr(load_check, "PATIENCE", 0.3)
    seen: list[int] = []
    monkeypatch.setattr(load_check, "group_resident", lambda group: seen.append(group) or 1)
    strike = Strike(2, 0.5, main_only)
    ended = watch([sys.executable, "-c", FAMILY, str(tmp_path)], counter(tmp_path), tmp_path, 0.01, strike)
    assert ended.status is None and ended.orphans == main_only
    assert counter(tmp_path)() >= 2 and not group_members(seen[0])


def test_a_batch_ends_with_its_main_process(tmp_path: Path) -> None:
    script = write(tmp_path / "batch.py", BATCH.encode())
    for number in range(3000):
        (tmp_path / f"{number:04d}.in").write_bytes(b"%d" % number)
    command = [sys.executable, str(script), str(tmp_path), str(ROOT), str(ROOT / "tests")]
    ended = watch(command, counter(tmp_path), tmp_path, 0.1, Strike(1, 0.0, main_only=True))
    assert ended.status is None, ended.err
    assert ended.orphans == 0 and 0 < counter(tmp_path)() < 3000


def test_a_run_that_ends_is_told_with_its_output_and_memory(tmp_path: Path) -> None:
    words = "import sys, time; print('out'); print('err', file=sys.stderr); time.sleep(0.2); sys.exit(3)"
    ended = watch([sys.executable, "-c", words], lambda: 0, tmp_path, 0.01, Strike(1, 0.0, main_only=False))
    assert (ended.status, ended.out, ended.err, ended.orphans) == (3, "out\n", "err\n", 0)
    assert max(sample.resident for sample in ended.samples) > 2**20


def test_quarters_are_of_the_time_in_which_outputs_are_made() -> None:
    memory = [1, 9, 5, 5, 6, 6, 7, 8, 99]
    outputs = [4, 4, 5, 6, 7, 8, 9, 10, 12]
    samples = [Sample(float(i), m, o) for i, (m, o) in enumerate(zip(memory, outputs, strict=True))]
    assert quarters(samples) == (5, 8)
    assert quarters(samples[:4]) is None and quarters(samples[:1] * 9) is None


def ended_with(status: int, out: str, err: str) -> Ended:
    return Ended(status, out, err, 1.0, [], 0)


def test_counts_reports_and_status_are_checked(tmp_path: Path) -> None:
    stage = Stage([], tmp_path, ".bin", "compress.json", good=["a", "b", "c"], bad=["d"])
    good = ended_with(1, "files: 2 done, 1 skipped, 1 failed, of 4\n", "error: left/d.png is cut short.\n")
    assert check_end(good, stage, kept=1) == []
    for change, problem in (
        ({"status": 0}, "exit status 0"),
        ({"out": "files: 1 done, 2 skipped, 1 failed, of 4\n"}, "counts"),
        ({"out": "files: 2 done, 1 skipped, 0 failed, of 3\n"}, "counts"),
        ({"out": ""}, "counts"),
        ({"err": "error: left/c.png is cut short.\n"}, "the bad d was reported 0 times"),
        ({"err": 2 * good.err}, "2 files were reported instead of 1"),
    ):
        assert problem in " ".join(check_end(dataclasses.replace(good, **change), stage, kept=1)), change


@pytest.fixture(scope="module")
def codec() -> Codec:
    return untrained_codec()


@pytest.fixture
def stages(tmp_path: Path, codec: Codec) -> tuple[Load, Stage, Stage]:
    """Three pairs, compressed and decompressed without a flaw."""
    names = ["a", "b", "c"]
    for number, name in enumerate(names):
        x, x_side = smooth_pair(64, 64, number)
        for side, image in (("left", x), ("right", x_side)):
            write(tmp_path / side / f"{name}.png", encode(to_uint8(image)))
        load = Load(tmp_path, names, {})
        data = codec.compress(load_check._image(load, "left", name), 0.5)
        write(tmp_path / "files" / f"{name}.bin", data)
        x_hat = codec.decompress(data, load_check._image(load, "right", name))
        write(tmp_path / "pictures" / f"{name}.png", encode(to_uint8(x_hat)))
    write(tmp_path / "files" / "compress.json", b"{}")
    write(tmp_path / "pictures" / "decompress.json", b"{}")
    return (
        load,
        Stage([], tmp_path / "files", ".bin", "compress.json", names, []),
        Stage([], tmp_path / "pictures", ".png", "decompress.json", names, []),
    )


def test_what_is_missing_left_over_or_half_written_is_seen(codec: Codec, stages: tuple[Load, Stage, Stage]) -> None:
    load, files, pictures = stages
    assert check_folder(files) == check_folder(pictures) == []
    files.path("c").unlink()
    ((cut, size),) = leave_halves(files, random.Random(0)).items()
    assert check_folder(files) == ["c.bin is missing", ".c.bin.tmp should not be there"]
    assert cut.stat().st_size == size and cut.stem in ("a", "b")
    problems = check_files(codec, 0.5, load, files, [])
    assert len(problems) == 2 and problems[0].startswith(f"{cut.name}: ") and "c.bin" in problems[1]
    half = pictures.path("b").read_bytes()
    pictures.path("b").write_bytes(half[: len(half) // 2])
    (problem,) = check_pictures(codec, load, files.folder, dataclasses.replace(pictures, good=["b"]), [])
    assert problem.startswith("b.png: ") and "cut short" in problem


def test_what_differs_from_direct_coding_is_seen(codec: Codec, stages: tuple[Load, Stage, Stage]) -> None:
    load, files, pictures = stages
    assert check_files(codec, 0.5, load, files, load.names) == []
    assert check_pictures(codec, load, files.folder, pictures, load.names) == []
    picture = load_check.read_image(pictures.path("a"))
    picture[5, 7, 1] ^= 1
    write(pictures.path("a"), encode(picture))
    assert check_pictures(codec, load, files.folder, pictures, load.names) == [
        "a.png differs from what is decoded directly"
    ]
    write(pictures.path("a"), encode(picture[1:]))
    assert check_pictures(codec, load, files.folder, pictures, []) == ["a.png has 64x63 pixels"]
    files.path("b").write_bytes(files.path("c").read_bytes())
    assert check_files(codec, 0.5, load, files, load.names) == ["b.bin differs from what is encoded directly"]


def test_bad_pairs_are_bad_in_turn(tmp_path: Path) -> None:
    load = load_check.make_load(tmp_path, 12, 3, 32, 48, seed=1)
    assert sorted(load.bad.values()) == sorted(load_check.KINDS) and len(load.names) == 12
    for name in load.names:
        kind = load.bad.get(name)
        sizes = []
        for side in ("left", "right"):
            try:
                sizes.append(load_check.read_image(tmp_path / side / f"{name}.png").shape[:2])
            except load_check.ProjectError:
                sizes.append((0, 0))
        assert sizes[0] == ((0, 0) if kind == load_check.CUT_LEFT else (32, 48))
        assert sizes[1] == {load_check.CUT_RIGHT: (0, 0), load_check.OTHER_SIZE: (16, 48)}.get(kind or "", (32, 48))
