from collections import Counter
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import encode, noise, write, write_pairs

from config import AugmentConfig
from data.mixture import Mixture, Part, make_loader
from data.pair import Pair, PairSource
from data.permutation import permute
from data.sources import open_source
from data.transforms import Augment
from utils.errors import ConfigError, DataError


class Numbered(PairSource):
    def __init__(self, name: str, length: int) -> None:
        self.name, self.split, self.length = name, "train", length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        return Pair(noise(18, 20, 2 * index), noise(18, 20, 2 * index + 1), f"{self.name}{index}", "g")

    @property
    def ids(self) -> list[str]:
        return [f"{self.name}{i}" for i in range(self.length)]

    groups = ids


class Flat(Numbered):
    """Both views of pair i have the grey level i."""

    def __init__(self, length: int) -> None:
        super().__init__("flat", length)

    def __getitem__(self, index: int) -> Pair:
        return Pair(*(np.full((16, 16, 3), index, np.uint8) for _ in range(2)), f"flat{index}", "g")


AUGMENT = Augment(AugmentConfig(height=16, width=16, brightness=0.1, exposure=0.05))
CROP = ((16, 16),)


def mixture(*parts: tuple[int, float], seed: int = 0) -> Mixture:
    sources = [Part([Numbered("abc"[k], n)], weight, (1.0, 1.2)) for k, (n, weight) in enumerate(parts)]
    return Mixture(sources, AUGMENT, seed, shapes=CROP)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 65, 1000, 4096])
def test_permutation_is_one(length: int) -> None:
    orders = [[permute(i, length, key) for i in range(length)] for key in (1, 2)]
    assert all(sorted(order) == list(range(length)) for order in orders)
    assert length < 7 or orders[0] != orders[1]


def test_permutation_is_uniform_and_needs_no_memory() -> None:
    first = Counter(permute(0, 5, key) for key in range(5000))
    assert all(850 < first[value] < 1150 for value in range(5))
    assert 0 <= permute(10**12, 10**13, 7) < 10**13
    with pytest.raises(ValueError, match="position 5"):
        permute(5, 5, 0)


def test_order_is_fixed_for_good() -> None:
    """A resumed run walks on in the same order on any machine and version: these values may never change."""
    assert [permute(i, 10, 12345) for i in range(10)] == [7, 9, 8, 5, 1, 4, 3, 6, 2, 0]
    m = mixture((5, 1), (7, 2))
    assert [m.locate(i) for i in (0, 1, 2, 5000, 10**9)] == [(1, 2), (1, 2), (1, 2), (1, 0), (1, 3)]
    one, other = ([mixture((100, 1), seed=seed).locate(i) for i in range(20)] for seed in (0, 1))
    assert one != other


def test_single_source_covers_every_pair_before_repeating() -> None:
    m = mixture((4096, 1))
    assert sorted(m.locate(i)[1] for i in range(4096)) == list(range(4096))
    assert sorted(m.locate(i)[1] for i in range(4096, 8192)) == list(range(4096))
    assert [m.locate(i)[1] for i in range(4096)] != [m.locate(i)[1] for i in range(4096, 8192)]


def test_some_samples_have_the_side_image_of_another_pair() -> None:
    sources = [Part([Numbered("a", 5)]), Part([Numbered("b", 2)])]
    right, some = (Mixture(sources, AUGMENT, 0, share, CROP) for share in (0.0, 0.25))
    different = 0
    for i in range(128):
        expected, found, again = right[i], some[i], some[i]
        assert torch.equal(found["x"], expected["x"]) and torch.equal(found["x_side"], again["x_side"])
        different += not torch.equal(found["x_side"], expected["x_side"])
    assert 20 < different < 45
    wrong = Mixture([Part([Flat(3)])], AUGMENT, 0, 1.0, CROP)
    assert all(int(wrong[i]["x_side"].max()) != int(wrong[i]["x"].max()) for i in range(50))
    with pytest.raises(ConfigError, match="one pair"):
        Mixture([Part([Numbered("a", 1)])], AUGMENT, 0, mismatched=0.1)


def test_weights_are_kept_in_every_block() -> None:
    m = mixture((10, 1), (1000, 2), (3, 5))
    for start in (0, 64, 6400):
        shares = Counter(m.locate(i)[0] for i in range(start, start + 64))
        for number, weight in enumerate((1, 2, 5)):
            assert abs(shares[number] - 64 * weight / 8) <= 2
    third = Counter(m.locate(i)[1] for i in range(3200) if m.locate(i)[0] == 2)
    assert max(third.values()) - min(third.values()) <= 1  # every pair of a source comes equally often


def test_sample() -> None:
    sample = mixture((4, 1))[17]
    assert set(sample) == {"x", "x_side", "has_side", "disparity", "index", "id"} and sample["index"] == 17
    assert sample["has_side"] is True and sample["disparity"].isnan().all()
    for view in ("x", "x_side"):
        assert sample[view].shape == (3, 16, 16) and sample[view].dtype == torch.uint8
    once, again = mixture((1, 1))[0], mixture((1, 1))[1]
    assert not torch.equal(once["x"], again["x"])  # Repeats of a pair are augmented anew.


def test_samples_do_not_depend_on_workers_processes_or_batch_size() -> None:
    m = mixture((5, 1), (7, 2))
    expected = [m[i] for i in range(24)]

    def collect(indices: range, batch_size: int, workers: int) -> dict[int, torch.Tensor]:
        found = {}
        for batch in make_loader(m, indices, batch_size, workers):
            for index, x, x_side in zip(batch["index"].tolist(), batch["x"], batch["x_side"], strict=True):
                found[index] = torch.stack([x, x_side])
        return found

    runs = [
        collect(range(24), 4, 0),
        collect(range(24), 3, 2),
        collect(range(0, 24, 2), 2, 1) | collect(range(1, 24, 2), 3, 0),
    ]
    for run in runs:
        assert sorted(run) == list(range(24))
        for sample in expected:
            assert torch.equal(run[sample["index"]], torch.stack([sample["x"], sample["x_side"]]))


def test_loader_walks_endless_indices_in_order() -> None:
    loader = make_loader(mixture((5, 1)), count(1000), 4, 2)
    batches = list(islice(loader, 3))
    assert [batch["index"].tolist() for batch in batches] == [list(range(s, s + 4)) for s in (1000, 1004, 1008)]
    assert batches[0]["x"].shape == (4, 3, 16, 16) and len(batches[0]["id"]) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_file_while_training_is_one_sentence(tmp_path: Path, workers: int) -> None:
    write_pairs(tmp_path / "train", ["a", "b"])
    write(tmp_path / "train" / "left" / "b.png", encode(noise())[:-200])
    m = Mixture([Part([open_source("folder", split="train", root=tmp_path)])], AUGMENT, 0, shapes=CROP)
    with pytest.raises(DataError) as error:
        list(make_loader(m, range(8), 2, workers))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "train" / "left" / "b.png"))


def test_wrong_mixtures() -> None:
    with pytest.raises(ConfigError, match="no source"):
        Mixture([], AUGMENT, 0)
    with pytest.raises(ConfigError, match="no source"):
        mixture((5, 0))
    with pytest.raises(ConfigError, match="is empty"):
        mixture((0, 1))
    with pytest.raises(IndexError):
        mixture((5, 1)).locate(-1)
    assert np.isfinite(mixture((5, 1))._shares).all()
