import multiprocessing
import os
import zipfile
from pathlib import Path

import pytest
from image_files import write, zip_folder

from data.files.archive import Archive, open_archive
from utils.errors import DataError


@pytest.fixture(params=["folder", "zip"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    root = tmp_path / "root"
    for name in ("b/two.bin", "b/one.bin", "a/c/three.bin", "top.txt", ".hidden", "__MACOSX/x", "b/._one.bin"):
        if request.param == "folder" and "MACOSX" in name:
            continue
        write(root / name, name.encode() * 100)
    return open_archive(root if request.param == "folder" else zip_folder(root, tmp_path / "root.zip"))


def test_listing_is_sorted_and_without_hidden_files(archive: Archive) -> None:
    assert archive.files() == ["top.txt"]
    assert archive.folders() == ["a", "b"]
    assert archive.files("b") == ["one.bin", "two.bin"]
    assert archive.folders("a") == ["c"] and archive.files("a") == []
    assert archive.files("absent") == [] == archive.folders("absent")
    assert archive.sub("a").files("c") == ["three.bin"]


def test_reading(archive: Archive) -> None:
    assert archive.read("b/one.bin") == b"b/one.bin" * 100
    assert archive.sub("a").sub("c").read("three.bin") == b"a/c/three.bin" * 100
    with archive.open("top.txt") as file:
        file.seek(7)
        assert file.read(3) == b"top"


def test_missing_file_is_named(archive: Archive) -> None:
    with pytest.raises(DataError, match=r"zero\.bin.* is missing"):
        archive.read("b/zero.bin")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "b/../../x", "b\\x", "C:/x"])
def test_names_that_lead_outside_are_refused(archive: Archive, name: str) -> None:
    for call in (archive.read, archive.files, archive.sub):
        with pytest.raises(DataError, match="points outside"):
            call(name)


def _read_many(archive: Archive, names: list[str]) -> bool:
    return all(archive.read(name) == name.encode() * 100 for name in names * 50)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_two_processes_read_at_once(archive: Archive, method: str) -> None:
    archive.read("top.txt")
    names = ["b/two.bin", "b/one.bin", "a/c/three.bin"]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(_read_many, [(archive, names)] * 2) == [True, True]


def test_zip_cut_short(tmp_path: Path) -> None:
    path = zip_folder(write(tmp_path / "r" / "a", os.urandom(5000)).parent, tmp_path / "r.zip")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"r\.zip \(\d+ bytes\) is cut short or not a zip file.*download it again\.$"):
        open_archive(path)


def test_damaged_member(tmp_path: Path) -> None:
    path = zip_folder(write(tmp_path / "r" / "a", os.urandom(5000)).parent, tmp_path / "r.zip")
    data = bytearray(path.read_bytes())
    data[2000] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"a in .*r\.zip cannot be read"):
        open_archive(path).read("a")


def test_zip_with_escaping_members_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(DataError, match="points outside"):
        open_archive(tmp_path / "evil.zip").files()
