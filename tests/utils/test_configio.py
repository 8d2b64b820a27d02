"""Configurations: whatever is unknown is an error, and what is written is what is read."""

import copy
import json
import sys
from dataclasses import asdict, replace
from typing import Any
from unittest.mock import patch

import pytest

from config import DEFAULT, PRESETS, Config, MixConfig, ModelConfig
from utils.configio import parse_command_line, read_config
from utils.configrules import differences, flat
from utils.errors import ConfigError


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_json(name: str) -> None:
    config = PRESETS[name]
    assert read_config(json.loads(json.dumps(asdict(config)))) == config
    assert config.name == name


def broken(change: Any) -> Any:
    values = copy.deepcopy(asdict(Config()))
    change(values)
    return values


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["train"].update(learning_rate=1), r"config\.train\.learning_rate is not a field"),
        (lambda v: v["model"].update(latnet=1), "did you mean latent"),
        (lambda v: v["train"].pop("lr"), r"config\.train lacks the field lr"),
        (lambda v: v.pop("model"), "config lacks the field model"),
        (lambda v: v["train"].update(steps=1.5), r"config\.train\.steps must be of type int, not 1\.5"),
        (lambda v: v["train"].update(steps=True), r"train\.steps must be of type int"),
        (lambda v: v["train"].update(lr="fast"), r"train\.lr must be of type float"),
        (lambda v: v["train"].update(compile=1), r"train\.compile must be of type bool"),
        (lambda v: v["data"].update(dataset="imagenet"), r"data\.dataset is 'imagenet'; it must be one of kitti"),
        (lambda v: v["model"].update(unet_channels=8), r"model\.unet_channels must be a list"),
        (lambda v: v["model"].update(unet_channels=[8, "16", 24]), r"model\.unet_channels\[1\]"),
        (lambda v: v.update(train=[]), r"config\.train must be an object"),
    ],
)
def test_what_does_not_fit_is_an_error(change: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_config(broken(change))


def test_missing_fields_take_defaults_only_when_asked() -> None:
    values = broken(lambda v: (v["train"].pop("lr"), v["train"].update(steps=7)))
    read = read_config(values, fill=True)
    assert read == replace(Config(), train=replace(Config().train, steps=7))
    with pytest.raises(ConfigError, match="not a field"):
        read_config(broken(lambda v: v["train"].update(learning_rate=1)), fill=True)


def test_differences_name_the_field() -> None:
    a = Config()
    b = replace(a, name="b", data=replace(a.data, augment=replace(a.data.augment, width=512)))
    assert differences(flat(a), flat(b)) == {"name": (a.name, "b"), "data.augment.width": (256, 512)}
    assert differences(flat(a), flat(a)) == {}


def test_the_command_line_sets_any_field() -> None:
    arguments = (
        "--preset small --name x --train.batch-size 32 --data.dataset cityscapes --model.unet-channels 8 16 24 "
        "--data.augment.flip 0.25 --model.no-variable-rate --model.codec diffusion --runs elsewhere --cpu"
    )
    config, switches = parse_command_line(arguments.split())
    expected = PRESETS["small"]
    assert (config.name, config.train.batch_size, config.data.dataset) == ("x", 32, "cityscapes")
    assert config.model.unet_channels == (8, 16, 24) and config.data.augment.flip == 0.25
    assert isinstance(config.model, ModelConfig) and not config.model.variable_rate
    assert switches.runs == "elsewhere" and switches.cpu
    assert differences(flat(expected), flat(config)).keys() == {
        "name",
        "train.batch_size",
        "data.dataset",
        "data.mix",
        "data.val",
        "model.unet_channels",
        "data.augment.flip",
        "model.variable_rate",
    }


@pytest.mark.parametrize(
    ("arguments", "trains_on"),
    [
        ("--preset demo", {"builtin": 1.0, "warped": 1.0}),
        ("--preset small --data.folder-root D", {"folder": 1.0}),
        ("--preset small --data.dataset cityscapes", {"cityscapes": 1.0}),
        ("--preset small --data.dataset=folder", {"folder": 1.0}),
        ("--preset demo --data.dataset folder --data.folder-root D", {"folder": 1.0}),
        ("--preset small --data.mix a=folder:D b=builtin,weight=0.5", {"a": 1.0, "b": 0.5}),
        (
            "--data.mix kitti=kitti,weight=3 --preset small --data.mix my=folder:D --data.dataset kitti",
            {"kitti": 3, "my": 1},
        ),
    ],
)
def test_what_is_named_is_what_trains(arguments: str, trains_on: dict[str, float]) -> None:
    """It takes the place of sets that only the preset gave; sets named beside a data set count."""
    data = parse_command_line(arguments.split())[0].data
    assert {part.name: part.weight for part in data.training()} == trains_on


def test_a_set_of_pictures_on_the_command_line() -> None:
    words = (
        "--data.mix a=folder:D/e,weight=0.25,scale-min=0.5,scale-max=2 b=photos:P --data.root R --data.val v=builtin"
    )
    data = parse_command_line(["--preset", "small", *words.split()])[0].data
    assert data.mix == (MixConfig("a", "folder", "D/e", 0.25, 0.5, 2.0), MixConfig("b", "photos", "P", role="pictures"))
    assert data.val == (MixConfig("v", "builtin"),)
    assert [data.root_of(part) for part in (*data.mix, *data.val)] == ["R/D/e", "R/P", None]
    assert data.root_of(MixConfig("c", "folder", "/elsewhere")) == "/elsewhere"
    assert data.root_of(MixConfig("d", "kitti")) == data.kitti_root


@pytest.mark.parametrize(
    ("arguments", "validates_on"),
    [
        ("--preset small", ["kitti", "stereo", "photos"]),
        ("--preset small --data.folder-root D", ["folder"]),
        ("--preset small --data.mix a=folder:D b=folder:E", ["a"]),
        ("--preset small --data.mix a=folder:D --data.dataset kitti", ["kitti"]),
        ("--preset small --data.mix a=folder:D --data.val b=folder:E c=photos:F", ["b", "c"]),
    ],
)
def test_what_is_named_is_what_is_validated(arguments: str, validates_on: list[str]) -> None:
    assert [part.name for part in parse_command_line(arguments.split())[0].data.validation()] == validates_on


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a", "--data.mix a is no set of pictures; write NAME=SOURCE:ROOT"),
        ("=folder:D", "is no set of pictures"),
        ("a=floder:D", "a.source is 'floder'; it must be one of kitti"),
        ("a=folder:D,wieght=2", "'wieght=2'; did you mean weight"),
        ("a=folder:D,weight", "has 'weight'"),
        ("a=folder:D,weight=much", "'weight=much', whose value is no number"),
        ("a=folder:D,role=side", "a.role is 'side'; it must be one of pairs, pictures"),
    ],
)
def test_a_set_that_is_none_is_an_error(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_command_line(["--preset", "small", "--data.mix", words])


def test_without_a_preset_it_is_the_default() -> None:
    config, switches = parse_command_line([])
    assert config == PRESETS[DEFAULT] and not switches.dry_run and switches.init == ""


def test_an_unknown_preset_names_its_neighbour() -> None:
    with pytest.raises(ConfigError, match="no preset 'smal'; did you mean small"):
        parse_command_line(["--preset", "smal"])


def test_a_dry_run_prints_the_configuration_and_the_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    import train

    with patch.object(sys, "argv", ["train.py", "--preset", DEFAULT, "--dry-run", "--train.lr", "0.125"]):
        train.main()
    text = capsys.readouterr().out
    assert "lr: 0.125" in text and "parameters:" in text and "total:" in text
