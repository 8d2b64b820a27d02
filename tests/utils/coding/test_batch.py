"""Folders: every input has one outcome; what is whole is kept; neither a bad file nor a dead process loses others."""

import os
from collections import Counter
from pathlib import Path

import pytest
from copy_task import Copy
from image_files import encode, mpo, png16, write
from tiny import smooth_pair

from data.images import read_image
from data.tensors import to_float, to_uint8
from utils.checkpoint import load_checkpoint
from utils.coding.batch import DEAD, Job, files_by_stem, outcomes
from utils.coding.batch_coding import Compress, Decompress, RateChoice, compress_folder, decompress_folder
from utils.errors import ConfigError, DataError
from utils.outputs import keep_settings

DECODING = {"steps": None, "gamma": None, "max_pixels": 10**6}


def copy_jobs(root: Path, contents: list[bytes]) -> tuple[Copy, list[Job]]:
    settings = keep_settings(root / "out", "copy.json", {"format": 1})
    jobs = [Job(write(root / f"{n}.in", data), root / "out" / f"{n}.out") for n, data in enumerate(contents)]
    return Copy(settings), jobs


def test_a_dead_process_takes_only_its_own_file_with_it(tmp_path: Path) -> None:
    task, jobs = copy_jobs(tmp_path, [b"a", b"die", b"bad", b"b", b"bug", *[bytes([n]) for n in range(7)]])
    ended = {outcome.job: outcome for outcome in outcomes(task, jobs, 2)}
    assert len(ended) == len(jobs)
    assert Counter(o.kind for o in ended.values()) == {"done": 9, "failed": 3}
    assert ended[jobs[1]].reason == f"{jobs[1].source}: {DEAD}."
    assert ended[jobs[2]].reason.endswith("is bad.") and "out of memory" in ended[jobs[4]].reason
    assert all(job.target.is_file() == (ended[job].kind == "done") for job in jobs)
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_is_whole_and_new_is_kept(tmp_path: Path) -> None:
    task, (job,) = copy_jobs(tmp_path, [b"a"])
    assert [task.run(job).kind for _ in range(2)] == ["done", "skipped"]
    job.target.write_bytes(b"cut")
    assert [task.run(job).kind for _ in range(2)] == ["done", "skipped"]
    for origin in (job.source, task.settings):
        later = job.target.stat().st_mtime_ns + 10**9
        os.utime(origin, ns=(later, later))
        assert task.run(job).kind == "done"
        os.utime(origin, ns=(0, 0))


def test_files_are_listed_by_stem(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", ".c.png", "notes.txt"):
        write(tmp_path / name, b"x")
    (tmp_path / "d.png").mkdir()
    assert list(files_by_stem(tmp_path, (".png", ".jpg"))) == ["a", "b"]
    write(tmp_path / "a.png", b"x")
    with pytest.raises(DataError, match=r"'a\.jpg' and 'a\.png' in .* differ only in their ending"):
        files_by_stem(tmp_path, (".png", ".jpg"))
    (tmp_path / "a.png").unlink()
    write(tmp_path / "e\u0301.png", b"x")
    assert list(files_by_stem(tmp_path, (".png", ".jpg"))) == ["a", "b", "\u00e9"]
    write(tmp_path / "\u00e9.png", b"x")
    with pytest.raises(DataError, match=r"'e\\u0301\.png' and '\\xe9\.png' in .* Unicode form"):
        files_by_stem(tmp_path, (".png", ".jpg"))
    with pytest.raises(DataError, match="cannot be listed"):
        files_by_stem(tmp_path / "none", (".png",))


@pytest.mark.slow
def test_folders_of_images_there_and_back(ckpt, tmp_path, capsys):
    left, right, files, decoded = (tmp_path / name for name in ("left", "right", "files", "decoded"))
    for number in range(3):
        for folder, image in zip((left, right), smooth_pair(50, 67, number), strict=True):
            write(folder / f"{number}.png", encode(to_uint8(image)))
    write(left / "deep.png", png16())
    write(left / "ignored.txt", b"x")

    assert compress_folder(left, files, str(ckpt), RateChoice(rate=0.5), 1) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{files}: 3 done, 0 skipped, 1 failed, of 4\n"
    assert printed.err.count("\n") == 1 and "deep.png has 16 bits" in printed.err
    codec = load_checkpoint(ckpt).codec
    x = to_float(read_image(left / "1.png"))
    assert (files / "1.bin").read_bytes() == codec.compress(x, 0.5)
    with pytest.raises(ConfigError, match=r"begun with rate 0\.5, and now it is None"):
        compress_folder(left, files, str(ckpt), RateChoice(max_bytes=500), 1)

    write(files / "lonely.bin", (files / "0.bin").read_bytes())
    write(files / "2.bin", b"damaged")
    assert decompress_folder(files, decoded, right, str(ckpt), 1, **DECODING) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{decoded}: 2 done, 0 skipped, 2 failed, of 4\n"
    assert "lonely.bin" in printed.err and "no side image named lonely" in printed.err and "2.bin: " in printed.err
    side = to_float(read_image(right / "1.png"))
    expected = codec.decompress(codec.compress(x, 0.5), side)
    assert abs(read_image(decoded / "1.png").astype(int) - to_uint8(expected).astype(int)).max() <= 1


def test_folders_of_gray_and_stereo_pictures(ckpt, in_this_process, tmp_path, capsys) -> None:
    """One line for each kind of conversion; an MPO serves both directions; names pair whatever their Unicode form."""
    pictures, files, decoded = (tmp_path / name for name in ("pictures", "files", "decoded"))
    views = [to_uint8(view) for view in smooth_pair(50, 67)]
    write(pictures / "pair.mpo", mpo(*views))
    for name in ("a", "e\u0301"):
        write(pictures / f"{name}.png", encode(views[0][..., 0].copy()))
    assert compress_folder(pictures, files, str(ckpt), RateChoice(rate=0.5), 1) == 0
    assert capsys.readouterr().err == "2 of 3 images: grayscale, read as three equal channels.\n"
    assert sorted(path.stem for path in files.glob("*.bin")) == ["a", "pair", "\u00e9"]
    assert decompress_folder(files, decoded, pictures, str(ckpt), 1, **DECODING) == 0
    codec = load_checkpoint(ckpt).codec
    expected = codec.decompress(
        (files / "pair.bin").read_bytes(), to_float(read_image(pictures / "pair.mpo", side=True))
    )
    assert abs(read_image(decoded / "pair.png").astype(int) - to_uint8(expected).astype(int)).max() <= 1


def test_tasks_know_their_own_outputs(ckpt: Path, tmp_path: Path) -> None:
    """Without processes: a file of another model or size, a PNG cut short, a file that does not fit a budget."""
    settings = keep_settings(tmp_path, "s.json", {})
    image = write(tmp_path / "a.png", encode(to_uint8(smooth_pair(50, 67)[0])))
    job = Job(image, tmp_path / "a.bin")
    codec = load_checkpoint(ckpt).codec
    task = Compress(codec, settings, RateChoice(bpp=1.0))
    assert [task.run(job).kind for _ in range(2)] == ["done", "skipped"]
    assert 8 * job.target.stat().st_size <= 50 * 67
    good = job.target.read_bytes()
    for other in (good[:-1], b"", codec.compress(smooth_pair(50, 68)[0], 0.5)):
        job.target.write_bytes(other)
        assert task.run(job).kind == "done" and job.target.read_bytes() == good
    task.choice = RateChoice(max_bytes=9)
    job.target.unlink()
    outcome = task.run(job)
    assert outcome.kind == "failed" and "a.png" in outcome.reason and "the smallest has" in outcome.reason

    write(job.target, good)
    back = Decompress(codec, settings, None, None, 10**6)
    decode = Job(job.target, tmp_path / "out.png")
    assert [back.run(decode).kind for _ in range(2)] == ["done", "skipped"]
    whole = decode.target.read_bytes()
    for other in (whole[:-20], encode(to_uint8(smooth_pair(50, 68)[0]))):
        decode.target.write_bytes(other)
        assert back.run(decode).kind == "done" and decode.target.read_bytes() == whole
    back.max_pixels = 1000
    decode.target.unlink()
    assert "--max-pixels" in back.run(decode).reason


def test_folders_that_cannot_be_worked_on(ckpt: Path, tmp_path: Path) -> None:
    image = write(tmp_path / "in" / "a.png", encode(to_uint8(smooth_pair(50, 67)[0])))
    with pytest.raises(DataError, match="holds no image"):
        compress_folder(ckpt, tmp_path / "out", str(ckpt), RateChoice(rate=0.5), 1)
    with pytest.raises(DataError, match=r"ends in \.bin"):
        decompress_folder(tmp_path / "in", tmp_path / "out", None, str(ckpt), 1, **DECODING)
    write(tmp_path / "in" / "a.bin", b"x")
    with pytest.raises(ConfigError, match="would be overwritten"):
        decompress_folder(tmp_path / "in", tmp_path / "in", tmp_path / "in", str(ckpt), 1, **DECODING)
    with pytest.raises(ConfigError, match="is no folder"):
        decompress_folder(tmp_path / "in", tmp_path / "out", image, str(ckpt), 1, **DECODING)
    with pytest.raises(ConfigError, match="cannot be made"):
        compress_folder(tmp_path / "in", image, str(ckpt), RateChoice(rate=0.5), 1)
