"""torch.hub gives a codec from anywhere, beside anyone's modules of the same names."""

import re
from pathlib import Path

import pytest
from processes import ROOT, python

RELEASED = sorted(path.parent.name for path in ROOT.glob("checkpoints/*/model.safetensors"))
USE = """
import utils, data
assert utils.MINE and data.MINE
import torch
x = torch.rand(3, 64, 64)
model = torch.hub.load(REPO, ENTRY, *ARGS, source="local")
data_1 = model.compress(x, rate=0.5)
x_hat = model.decompress(data_1, x, steps=2, gamma=1.0)
assert x_hat.shape == x.shape and 7 < len(data_1)
again = torch.hub.load(REPO, ENTRY, *ARGS, source="local")
assert torch.allclose(again.decompress(data_1, x, steps=2, gamma=1.0), x_hat, atol=1e-3)
import config, modules
assert utils.MINE and data.MINE and config.MINE and modules.MINE
print("fine")
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of somebody's own, with modules named like ours."""
    for name in ("utils", "data", "config", "modules"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    return tmp_path


def run(folder: Path, program: str) -> str:
    (folder / "program.py").write_text(program)
    done = python("program.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "arguments"), [("small_kitti", []), ("codec", [str(ROOT / "checkpoints" / "small_kitti")])]
)
def test_a_codec_beside_modules_of_the_same_names(entry: str, arguments: list[str], elsewhere: Path) -> None:
    assert run(elsewhere, f"REPO, ENTRY, ARGS = {str(ROOT)!r}, {entry!r}, {arguments!r}\n{USE}").endswith("fine\n")


def test_every_released_checkpoint_is_listed(elsewhere: Path) -> None:
    said = run(elsewhere, f"import sys; sys.path.insert(0, {str(ROOT)!r}); import hubconf; print(dir(hubconf))")
    listed = re.findall(r"'(\w+)'", said.splitlines()[-1])
    assert {*RELEASED, "codec"} <= set(listed)


@pytest.mark.slow
def test_the_example_of_the_readme_runs_as_printed(elsewhere: Path) -> None:
    example = next(part for part in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    example = example.replace('"PATH_TO_THIS_REPOSITORY"', repr(str(ROOT))) + "\nassert x_hat.shape == x.shape\n"
    run(elsewhere, "import torch\nx = x_side = torch.rand(3, 64, 64)\n" + example)
