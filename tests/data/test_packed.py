import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, noise, write
from kitti_files import write_cityscapes, write_kitti
from sentences import sentence

from config import AugmentConfig
from data.files.packed import CacheKey, PackedSource, write_cache
from data.mixture import Mixture, Part, make_loader
from data.sources import cache_key, open_source, verify
from data.transforms import Augment
from utils.errors import DataError

KEY = CacheKey("kitti", "train", "full", "drive_disjoint")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Original pairs of two sizes and, below "cache", their cache."""
    write_kitti(tmp_path / "raw", {(2015, "training"): [0, 1]}, frames=[10])
    for camera in ("image_2", "image_3"):
        path = tmp_path / "raw/data_scene_flow_multiview/training" / camera / "000001_10.png"
        write(path, encode(noise(32, 48, len(camera))))
    write_cache(open_kitti(tmp_path / "raw"), tmp_path / "cache", KEY, report="some.")
    return tmp_path


def open_kitti(root: Path, size: str = "full", **options):
    return open_source("kitti", split="train", root=root, size=size, **options)


def test_cache_equals_its_source(root: Path) -> None:
    raw, packed = open_kitti(root / "raw"), open_kitti(root / "cache")
    assert isinstance(packed, PackedSource)
    assert packed.ids == raw.ids and packed.groups == raw.groups and packed.report == "some."
    for one, other in zip((raw[i] for i in range(4)), (packed[i] for i in range(4)), strict=True):
        assert (one.id, one.group) == (other.id, other.group)
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.x_side, other.x_side)
    assert {packed[i].x.shape for i in range(4)} == {(24, 40, 3), (32, 48, 3)}
    verify(packed, decode=True)
    assert [path.name for path in sorted((root / "cache").rglob("*.*"))] == ["index.json", "pairs.bin"]


def test_folder_of_one_cache_is_a_root_too(root: Path) -> None:
    assert len(open_kitti(root / "cache" / KEY.folder)) == 4
    assert open_kitti(root / "cache", limit=3).ids == open_kitti(root / "raw").ids[:3]


@pytest.mark.slow
def test_pickled_and_in_workers(root: Path) -> None:
    packed = open_kitti(root / "cache")
    expected = packed[2].x
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(packed))[2].x, expected)
    mixture = Mixture([Part([packed])], Augment(AugmentConfig()), 0, shapes=((16, 16),))
    alone = {i: mixture[i]["x"] for i in range(12)}
    for batch in make_loader(mixture, range(12), 2, 2):
        for index, x in zip(batch["index"].tolist(), batch["x"], strict=True):
            assert (x == alone[index]).all()


@pytest.mark.slow
def test_cache_cut_short(root: Path) -> None:
    path = root / "cache" / KEY.folder / "pairs.bin"
    path.write_bytes(path.read_bytes()[:-1])
    text = sentence(lambda: open_kitti(root / "cache"))
    size = path.stat().st_size
    assert f"pairs.bin has {size} bytes instead of {size + 1}" in text and "scripts/prepare_kitti.py" in text
    path.unlink()
    assert f"has 0 bytes instead of {size + 1}" in sentence(lambda: open_kitti(root / "cache"))


def test_changed_byte_is_found_on_reading(root: Path) -> None:
    path = root / "cache" / KEY.folder / "pairs.bin"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    packed = open_kitti(root / "cache")
    assert packed[0].id
    assert "kitti2015_training_000001_10_rl" in sentence(lambda: packed[3])
    assert "has changed" in sentence(lambda: verify(packed, decode=True))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"pairs": [{"id": "a"}]}'])
def test_damaged_index(root: Path, text: str) -> None:
    path = root / "cache" / KEY.folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | json.loads(text)) if "pairs" in text else text)
    assert "index.json is" in sentence(lambda: open_kitti(root / "cache"))


@pytest.mark.parametrize("other", [{"protocol": "ndic"}, {"size": "protocol"}])
def test_cache_of_something_else(root: Path, other: dict) -> None:
    options = {"size": "full", **other}
    text = sentence(lambda: open_kitti(root / "cache" / KEY.folder, **options))
    assert "holds kitti drive_disjoint-train-full, not kitti" in text
    text = sentence(lambda: open_kitti(root / "cache", **options))
    assert "has the caches drive_disjoint-train-full but not" in text


def test_originals_beside_the_cache_serve_what_it_lacks(root: Path) -> None:
    write_cache(open_kitti(root / "raw"), root / "raw", KEY)
    assert isinstance(open_kitti(root / "raw"), PackedSource)
    assert not isinstance(open_kitti(root / "raw", protocol="ndic"), PackedSource)


def test_interrupted_writing_leaves_no_cache(root: Path) -> None:
    def stop(numbers):
        yield next(iter(numbers))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cache(open_kitti(root / "raw"), root / "new", KEY, progress=stop)
    assert not list((root / "new").rglob("*.*"))
    with pytest.raises(DataError, match=r"index\.json"):
        PackedSource(root / "new" / KEY.folder, KEY)


def test_cityscapes_train_size_is_the_protocol_size(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "raw", "train", ["ulm_0_0", "aachen_0_0"])
    raw = open_source("cityscapes", split="train", root=tmp_path / "raw")
    write_cache(raw, tmp_path / "cache", cache_key("cityscapes", "train", "protocol", "drive_disjoint"))
    for size in ("train", "protocol"):
        packed = open_source("cityscapes", split="train", root=tmp_path / "cache", size=size)
        assert isinstance(packed, PackedSource) and packed.ids == raw.ids
