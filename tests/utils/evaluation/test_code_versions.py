"""The digest of the code that measures: every file that decides a figure is in it, and none that only shows one."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

import config
from data import images
from data.files import archive, geometry, kitti, packed
from data.made import synthetic, textures
from modules import codec, coder, diffusion_codec, entropy, fusion, integer, unet
from modules.pretrained import effnet, frozen, inception, lpips_net, weights
from modules.published import cdc, dicm
from scripts import results_table
from utils import checkpoint, files
from utils import images as rounding
from utils.coding import tiles
from utils.evaluation import anchors, bd_intervals, coders, measure, pipeline, rd, side, store, summary, sweep
from utils.evaluation.code import code_digest, library_versions, reach
from utils.evaluation.pipeline import MEASURING
from utils.metrics import bootstrap, deep, image, sets, statistics, suite
from utils.metrics import effnet as effnet_metrics
from utils.report import charts, page, pictures, tables
from utils.training import precision

ROOT = Path(pipeline.__file__).resolve().parents[pipeline.__name__.count(".")]
DECIDE = [
    *(rounding, lpips_net, effnet, frozen, inception, weights, files, checkpoint, config, precision, tiles, bootstrap),
    *(images, archive, geometry, kitti, packed, synthetic, textures),
    *(codec, diffusion_codec, dicm, cdc, entropy, coder, integer, fusion, unet),
    *(deep, image, sets, statistics, suite, effnet_metrics),
    *(anchors, coders, measure, side, store, sweep),
]
ONLY_SHOW = [charts, page, pictures, tables, rd, bd_intervals, summary, pipeline, results_table]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's Python files, so that a test can change them."""
    root = tmp_path_factory.mktemp("somewhere") / "else"
    folders = [ROOT / "scripts", *(file.parent for file in ROOT.glob("*/__init__.py"))]
    for file in [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]:
        target = root / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return root


def changed(module: Any, copy: Path) -> str:
    """The digest while the file of a module of the copy is another."""
    file = copy / Path(inspect.getfile(module)).resolve().relative_to(ROOT)
    before = file.read_bytes()
    file.write_bytes(before + b"\n# changed\n")
    try:
        return code_digest(MEASURING, copy)
    finally:
        file.write_bytes(before)


def test_a_change_of_each_file_that_decides_a_figure_is_seen(copy: Path) -> None:
    digests = {module.__name__: changed(module, copy) for module in DECIDE}
    original = code_digest(MEASURING, copy)
    assert [name for name, digest in digests.items() if digest == original] == []
    assert len({*digests.values()}) == len(DECIDE)


def test_a_change_of_the_report_the_plots_and_the_tables_measures_nothing_anew(copy: Path) -> None:
    original = code_digest(MEASURING, copy)
    assert [module.__name__ for module in ONLY_SHOW if changed(module, copy) != original] == []


def test_the_digest_is_of_the_content_not_of_the_place_or_the_process(copy: Path) -> None:
    original = code_digest(MEASURING, ROOT)
    ask = "import sys; from utils.evaluation.code import code_digest; print(code_digest(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", ask, *MEASURING], cwd=copy, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == code_digest(MEASURING, copy) == original


def test_imports_are_followed_wherever_and_however_they_are_written(tmp_path: Path) -> None:
    for name, text in {
        "start.py": "def late():\n    import one.deep\n",
        "one/__init__.py": "",
        "one/deep.py": "from . import beside\nfrom ..two import thing\nimport os.path, torch.nn\n",
        "one/beside.py": "import importlib\nimportlib.import_module({'a': 'two.named'}['a'])",
        "two/__init__.py": "from two.thing import VALUE",
        "two/thing.py": "VALUE = 'one.unused has no such sentence'\nNOT = 'train.steps'",
        "two/named.py": "from numpy import array",
        "one/unused.py": "import scipy",
        "train.py": "import accelerate",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found, libraries = reach(["start"], tmp_path)
    assert set(found) == {"start", "one", "one.deep", "one.beside", "two", "two.thing", "two.named"}
    assert libraries == {"torch", "numpy"}
    with pytest.raises(ValueError, match="no module elsewhere"):
        reach(["elsewhere"], tmp_path)


def test_the_libraries_that_compute_figures_are_named_with_their_versions() -> None:
    found = library_versions(MEASURING)
    named = {name.replace("_", "-") for name in found}
    computing = {"torch", "torchvision", "numpy", "scipy", "pillow", "compressai", "constriction", "scikit-image"}
    judging = {"pytorch-msssim", "lpips", "torchmetrics", "torch-fidelity", "cvvdp", "efficientnet-lite-pytorch"}
    assert computing | judging <= named
    assert not {"matplotlib", "bjontegaard", "tensorboard"} & named
    assert found["numpy"] == numpy.__version__
