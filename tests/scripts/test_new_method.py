"""The example of docs/new_method.md is a method like every other."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import smooth_pair, tiny_config
from tiny_methods import train_a_step

import config
from modules import codec
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.configio import preset_named
from utils.configrules import validate

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "new_method.md"
NAME = "modules.published.example"
TABLES: tuple[dict[str, Any], ...] = (config.SECTIONS, config.PRESETS, codec.BUILDERS)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The document's code as the module that it would be; what it registers is forgotten after the test."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 100
    for table in TABLES:
        monkeypatch.setitem(table, "example", None)  # So that it is undone: delitem() remembers no absent name.
        del table["example"]
    module = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, module)
    exec(compile(code, NAME, "exec"), vars(module))
    return module


@pytest.fixture
def names() -> Iterator[None]:
    """Around `example`: the tables hold the same names after the test as before it."""
    before = [set(table) for table in TABLES]
    yield
    assert [set(table) for table in TABLES] == before


@pytest.mark.slow
@pytest.mark.usefixtures("names")
def test_the_example_trains_and_codes(example: ModuleType, tmp_path: Path) -> None:
    settings = preset_named("example")
    validate(settings, settings)
    model = replace(settings.model, channels=8)
    settings = replace(settings, data=tiny_config().data, model=model)
    trained, losses = train_a_step(settings, 8)
    assert losses[-1] < losses[0]
    trained.freeze()
    save_checkpoint(tmp_path / "model.safetensors", trained.eval(), settings, 8)
    loaded = load_checkpoint(tmp_path).codec
    assert (type(loaded).__name__, loaded.name) == ("Example", "example")
    x, side = smooth_pair(50, 70)
    assert loaded.decompress(trained.compress(x), side).shape == x.shape
