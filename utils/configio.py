"""Configurations as JSON and from the command line; whatever is unknown is an error."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import types
import typing
from typing import Any, TypeVar

from utils.cli import Parser
from utils.errors import ConfigError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON types."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: Any, path: str = "config", fill: bool = False) -> T:
    """The dataclass `cls` from what `to_dict` gave, strictly: a missing, unknown or mistyped field raises ConfigError.

    With `fill`, a missing field takes its default: a checkpoint may be older than a field, whose default must then
    stand for what was done before it existed.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must be an object with fields, not {values!r}.")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(f"{path}.{name} is not a field of this version{_closest(name, known)}.")
    missing = [name for name in known if name not in values]
    if missing and not fill:
        raise ConfigError(f"{path} lacks the field {missing[0]}; it was written by another version of this project.")
    return cls(**{name: _value(hints[name], value, f"{path}.{name}", fill) for name, value in values.items()})


def _value(hint: Any, value: Any, path: str, fill: bool) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, path, fill)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path} must be a list, not {value!r}.")
        return tuple(_value(typing.get_args(hint)[0], item, f"{path}[{i}]", fill) for i, item in enumerate(value))
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise ConfigError(f"{path} is {value!r}; it must be one of {', '.join(map(str, typing.get_args(hint)))}.")
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _value(typing.get_args(hint)[0], value, path, fill)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if type(value) is hint:
        return value
    raise ConfigError(f"{path} must be of type {hint.__name__}, not {value!r}.")


def differences(a: Any, b: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (value in a, value in b), where two configurations differ."""
    found: dict[str, tuple[Any, Any]] = {}
    for f in dataclasses.fields(a):
        left, right, name = getattr(a, f.name), getattr(b, f.name), f"{path}{f.name}"
        if dataclasses.is_dataclass(left) and dataclasses.is_dataclass(right):
            found |= differences(left, right, name + ".")
        elif left != right:
            found[name] = (left, right)
    return found


def _closest(name: str, known: list[str]) -> str:
    match = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {match[0]}" if match else ""


def parse_command_line(args: list[str] | None = None) -> tuple[Any, argparse.Namespace]:
    """The configuration that `--preset NAME --field.path VALUE ...` describes, and train.py's own switches.

    Raises ConfigError for an unknown preset; an unknown field ends the program with tyro's message.
    """
    import tyro

    import config

    parser = Parser("Train a codec. --field.path VALUE sets any field of config.py (see --preset NAME --help-fields).")
    parser.add_argument(
        "--preset", default=config.DEFAULT, help=f"one of {', '.join(config.PRESETS)} (default: {config.DEFAULT})"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the configuration and the parameter counts, then stop"
    )
    parser.add_argument("--help-fields", action="store_true", help="list every field with its default")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even if a GPU is there")
    parser.add_argument("--init", default="", metavar="CKPT", help="start from the weights of this checkpoint")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder of run folders (default: runs)")
    parser.add_argument(
        "--weights-dir", default=None, metavar="DIR", help="pretrained weights of losses, prepared by fetch_weights.py"
    )
    known, rest = parser.parse_known_args(args)
    if known.preset not in config.PRESETS:
        raise ConfigError(
            f"There is no preset {known.preset!r}{_closest(known.preset, list(config.PRESETS))}; "
            f"config.py has {', '.join(config.PRESETS)}."
        )
    if known.help_fields:
        rest = ["--help"]
    default = config.PRESETS[known.preset]()
    named = named_fields(rest)
    if "data.dataset" in named:  # What the user names is what trains: the preset's own mixture gives way.
        data = dataclasses.replace(default.data, mixture=config.MixtureConfig())
        default = dataclasses.replace(default, data=data)
    return tyro.cli(config.Config, default=default, args=rest, prog="train.py"), known


def named_fields(args: list[str]) -> set[str]:
    """The dotted fields that command-line words such as `--data.val-limit 4` or `--model.no-variable-rate` name."""
    flags = (word[2:].partition("=")[0].replace("-", "_") for word in args if word.startswith("--"))
    return {name for flag in flags for name in (flag, flag.replace(".no_", "."))}
