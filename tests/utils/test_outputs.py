"""No command writes over what it reads, by whatever name, nor over pictures and folders that it did not make."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_files import options, write_split
from image_files import encode, noise, write
from PIL import Image
from script_files import load_script

from data.images import read_image
from utils.checkpoint import MODEL_FILE
from utils.coding.batch_coding import RateChoice, compress_folder, decompress_folder
from utils.errors import ConfigError
from utils.evaluation import pipeline
from utils.evaluation.store import Store, refuse_losses
from utils.files import png_bytes, write_whole
from utils.outputs import keep_settings, refuse_foreign_folder, refuse_lost_pictures, refuse_overwriting
from utils.run import refuse_losses as refuse_run

Script = Callable[..., None]


def linked(name: str) -> Callable[[Path], Path]:
    """A second name of a file, made by os.symlink or os.link."""

    def make(file: Path) -> Path:
        getattr(os, name)(file, file.with_name(name))
        return file.with_name(name)

    return make


NAMES: dict[str, Callable[[Path], Path]] = {
    "its own": lambda file: file,
    "a dot": lambda file: Path(f"{file.parent}/./{file.name}"),
    "two dots": lambda file: file.parent / ".." / file.parent.name / file.name,
    "relative": lambda file: Path(os.path.relpath(file)),
    "a symbolic link": linked("symlink"),
    "a hard link": linked("link"),
    "a link to its folder": lambda file: linked("symlink")(file.parent) / file.name,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "folder" / "a.png", encode(noise(20, 20, 0)))


@pytest.mark.parametrize("kind", NAMES)
def test_a_file_that_is_read_is_no_output(file: Path, kind: str) -> None:
    for output, read in ((NAMES[kind](file), file), (file, NAMES[kind](file) if "link" not in kind else file)):
        with pytest.raises(ConfigError, match="would be overwritten though it is read"):
            refuse_overwriting([output], [None, read])


def test_a_new_name_that_some_file_systems_take_for_the_input_is_no_output(file: Path) -> None:
    accented = write(file.with_name("caf\u00e9.png"), b"x")
    for output, read in ((file.with_name("A.PNG"), file), (file.with_name("cafe\u0301.png"), accented)):
        if not output.exists():  # There the file system itself says so.
            with pytest.raises(ConfigError, match="though it is read"):
                refuse_overwriting([output], [read])
    dangling = file.with_name("link")
    dangling.symlink_to("later.png")
    with pytest.raises(ConfigError, match="though it is read"):
        refuse_overwriting([dangling], [file.with_name("later.png")])


def test_a_folder_that_is_read_takes_new_files_only(file: Path) -> None:
    refuse_overwriting([file.with_name("a.bin"), None], [file.parent, file])
    other = write(file.with_name("other.txt"), b"x")
    with pytest.raises(ConfigError, match="for it lies in"):
        refuse_overwriting([other], [file.parent])
    with pytest.raises(ConfigError, match="though it is read"):
        refuse_overwriting([file.parent], [file.parent])
    refuse_overwriting([other], [file])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000"])
def test_pictures_are_known_by_their_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.bin"
    Image.fromarray(noise(20, 20, 1)).save(path, kind)
    with pytest.raises(ConfigError, match="did not make"):
        refuse_lost_pictures([tmp_path / "none", path])


def test_what_this_program_made_may_be_made_again(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.png", png_bytes(noise(20, 20, 1)))
    refuse_lost_pictures([tmp_path / "a.png", write(tmp_path / "b.bin", b"BM, words"), write(tmp_path / "c", b"")])
    assert np.array_equal(read_image(tmp_path / "a.png"), noise(20, 20, 1))


def test_an_output_folder_is_new_or_an_earlier_commands(tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    refuse_foreign_folder(out, "mark", ["report"], [data])
    write(out / "notes.txt", b"x")
    refuse_foreign_folder(out, "mark", ["report"], [data])
    write(out / "report", b"x")
    with pytest.raises(ConfigError, match="report is there already"):
        refuse_foreign_folder(out, "mark", ["report"])
    write(out / "mark", b"x")
    refuse_foreign_folder(out, "mark", ["report"])
    for read in (out, write(out / "deep" / "model", b"x")):
        with pytest.raises(ConfigError, match="is or holds"):
            refuse_foreign_folder(out, "mark", ["report"], [read])
    write(data / "left" / "a.png", b"x")
    refuse_foreign_folder(data / "new", "mark", [], [data])
    with pytest.raises(ConfigError, match="holds files of"):
        refuse_foreign_folder(data / "left", "mark", [], [data])


def test_a_temporary_file_takes_no_name_of_the_users(tmp_path: Path) -> None:
    for name in ("a.bin.tmp", "a.tmp"):
        write(tmp_path / name, b"mine")
    write_whole(tmp_path / "a.bin", b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "a.bin": b"new",
        "a.bin.tmp": b"mine",
        "a.tmp": b"mine",
    }


@pytest.mark.parametrize("content", ["null", "[]", '{"compilerOptions": {}}', "not JSON"])
def test_a_settings_file_of_the_users_stays(tmp_path: Path, content: str) -> None:
    kept = write(tmp_path / "compress.json", content.encode())
    with pytest.raises(ConfigError, match="not of this command"):
        keep_settings(tmp_path, "compress.json", {"format": 1})
    assert kept.read_text() == content


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a script's `main`; a checkpoint that is loaded is a failure, for then work has begun."""

    def loaded(*_: Any) -> None:
        raise AssertionError("a checkpoint was loaded before the refusal")

    for module in ("utils.checkpoint", "utils.coding.batch_coding", "utils.evaluation.plan"):
        monkeypatch.setattr(f"{module}.load_checkpoint", loaded, raising=False)

    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        load_script(name).main()

    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """a.png, side.png, a.bin (no picture), and folders of the same."""
    for name in ("a.png", "side.png", "left/a.png", "right/a.png"):
        write(tmp_path / name, encode(noise(32, 32, len(name))))
    for name in ("a.bin", "files/a.bin", "points/a.bin"):
        write(tmp_path / name, b"\xd0 bytes")
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REFUSED = {
    "a picture onto itself": ("compress", "a.png", "a.png", [], "ends like a picture"),
    "a picture onto its link": ("compress", "a.png", "hard.bin", [], "though it is read"),
    "onto another picture": ("compress", "a.png", "side.png", [], "ends like a picture"),
    "onto a picture of another name": ("compress", "a.png", "hidden", [], "did not make"),
    "onto the checkpoint": ("compress", "a.png", "CKPT/model.safetensors", [], "though it is read"),
    "onto the checkpoint's manifest": ("compress", "a.png", "CKPT/manifest.json", [], "though it is read"),
    "a folder onto a picture's name": ("compress", "left", "new.JPG", [], "ends like a picture"),
    "a folder beside point clouds": ("compress", "left", "points", [], "is there already"),
    "the side image": ("decompress", "a.bin", "side.png", ["--side", "side.png"], "though it is read"),
    "a file onto itself": ("decompress", "a.bin", "a.bin", [], "does not end in .png"),
    "a file onto its link": ("decompress", "a.bin", "stream.png", [], "though it is read"),
    "the original": ("decompress", "a.bin", "a.png", ["--side", "side.png"], "did not make"),
    "a picture as the file": ("decompress", "a.png", "new.png", [], "ends like a picture"),
    "the folder of side images": ("decompress", "files", "right", ["--side", "right"], "though it is read"),
    "the folder of originals": ("decompress", "files", "left", ["--side", "right"], "is there already"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_coding_loses_nothing(script: Script, ckpt: Path, place: Path, kind: str) -> None:
    name, source, target, more, reason = REFUSED[kind]
    os.link(place / "a.png", place / "hard.bin")
    os.link(place / "a.bin", place / "stream.png")
    write(place / "hidden", (place / "side.png").read_bytes())
    (place / "CKPT").symlink_to(ckpt)
    out = place / target
    more = [part if part.startswith("--") else place / part for part in more]
    rate = ["--rate", 0.5] if name == "compress" else []
    before = contents(place)
    with pytest.raises(ConfigError, match=reason):
        script(name, place / source, out, "--ckpt", ckpt, *more, *rate)
    assert contents(place) == before


def test_folders_beside_their_inputs(ckpt: Path, in_this_process: None, place: Path) -> None:
    """left.bin beside left.png is harmless, what is decoded from it must go elsewhere."""
    originals = contents(place / "left")
    assert compress_folder(place / "left", place / "left", str(ckpt), RateChoice(rate=0.5), 1) == 0
    assert originals.items() <= contents(place / "left").items()
    options = {"steps": None, "gamma": None, "max_pixels": 10**6}
    with pytest.raises(ConfigError, match=r"a\.png is there already"):
        decompress_folder(place / "left", place / "left", place / "right", str(ckpt), 1, **options)
    (place / "linked").symlink_to(place / "right")
    for target in ("linked", "right"):
        with pytest.raises(ConfigError, match="though it is read"):
            decompress_folder(place / "left", place / target, place / "right", str(ckpt), 1, **options)


def test_an_export_into_its_own_data(script: Script, tmp_path: Path) -> None:
    root = write_split(tmp_path / "data", "val", ["a", "b"])
    before = contents(root)
    arguments = ["--dataset", "folder", "--data-root", root, "--split", "val", "--scale", 0.5]
    (tmp_path / "link").symlink_to(root)
    for out in (root, tmp_path / "link"):
        with pytest.raises(ConfigError, match="though it is read"):
            script("export_pairs", out, *arguments)
    foreign = write(tmp_path / "out" / "val" / "right" / "pair1.png", encode(noise(20, 20, 0)))
    with pytest.raises(ConfigError, match="did not make"):
        script("export_pairs", tmp_path / "out", *arguments)
    foreign.unlink()
    write(tmp_path / "out" / "manifest.csv", b"mine,not yours\n")
    with pytest.raises(ConfigError, match=r"manifest\.csv is not one"):
        script("export_pairs", tmp_path / "out", *arguments)
    assert contents(root) == before


def test_a_second_split_keeps_the_groups_of_the_first(script: Script, tmp_path: Path) -> None:
    for split in ("val", "test", "val"):
        script("export_pairs", tmp_path, "--dataset", "builtin", "--split", split, "--limit", 1)
    lines = (tmp_path / "manifest.csv").read_text().splitlines()
    assert sorted(line.split(",")[0] for line in lines) == ["split", "test", "val"]


def test_a_release_onto_the_run(script: Script, ckpt: Path) -> None:
    before = contents(ckpt)
    for given in (ckpt, ckpt / MODEL_FILE):
        with pytest.raises(ConfigError, match="though it is read"):
            script("release", "--ckpt", given, "--out", ckpt)
    assert contents(ckpt) == before


def test_a_report_onto_the_checkpoint(script: Script, ckpt: Path) -> None:
    with pytest.raises(ConfigError, match="though it is read"):
        script("benchmark", "--ckpt", ckpt, "--json", ckpt / MODEL_FILE)


@pytest.mark.parametrize("dataset", ["kitti", "cityscapes"])
def test_caches_among_the_users_files(script: Script, tmp_path: Path, dataset: str) -> None:
    protocol = "drive_disjoint" if dataset == "kitti" else "standard"
    write(tmp_path / "out" / f"{protocol}-val-protocol" / "pairs.bin", b"mine")
    (tmp_path / "root").mkdir()
    with pytest.raises(ConfigError, match=r"pairs\.bin is there already"):
        script(f"prepare_{dataset}", tmp_path / "root", "--out", tmp_path / "out", "--splits", "val")


def test_an_evaluation_beside_what_it_reads(ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "describe_models", lambda _: pytest.fail("a checkpoint was loaded"))
    root = write_split(tmp_path / "data", "val", ["a"])
    notes = write(tmp_path / "mine" / "summary.json", b"{}").parent
    for out, reason in (
        (ckpt, "is or holds"),
        (root, "is or holds"),
        (tmp_path, "is or holds"),
        (root / "val" / "left", "holds files of"),
        (notes, r"summary\.json is there already"),
    ):
        with pytest.raises(ConfigError, match=reason):
            pipeline.evaluate(options(ckpt, out, data_root=str(root)))
    refuse_losses(ckpt / "evaluation", [ckpt / MODEL_FILE, root])  # A new folder in what is read is harmless.
    with pytest.raises(ConfigError, match="is or holds"):  # The checkpoint's own root is known only once it is loaded.
        Store(root, ["a"]).open({"data_root": str(root)}, writes=True)
    write(tmp_path / "list" / "work" / "settings.json", json.dumps([]).encode())
    with pytest.raises(ConfigError, match="not of this command"):
        Store(tmp_path / "list", ["a"]).open({}, writes=True)


def test_a_run_beside_what_it_reads(ckpt: Path, tmp_path: Path) -> None:
    for run, reads, reason in (
        (ckpt, [ckpt / MODEL_FILE], "is or holds"),
        (tmp_path, [str(tmp_path)], "is or holds"),
        (write(tmp_path / "a" / "log.txt", b"mine").parent, ["", None], r"log\.txt is there already"),
    ):
        with pytest.raises(ConfigError, match=reason):
            refuse_run(run, reads, writes=True)
    refuse_run(tmp_path / "new", [ckpt / MODEL_FILE, str(tmp_path)], writes=True)
