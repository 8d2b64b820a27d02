"""Configurations as JSON, from the command line, and in words for --dry-run; whatever is unknown is an error."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import config
from config import SECTIONS, Config, DataConfig, MixConfig
from utils.cli import Parser
from utils.configrules import differences, flat, settings_of, validate
from utils.errors import ConfigError
from utils.migrate import migrate

T = TypeVar("T")


def read_config(values: Any, path: str = "config", fill: bool = False) -> Config:
    """The configuration from what `asdict` gave, now or in an earlier version, with the sections of its codec.

    Strictly: a missing, unknown or mistyped field raises ConfigError. With `fill`, a missing field takes its default:
    a checkpoint may be older than a field, whose default must then stand for what was done before it existed.
    """
    if isinstance(values, dict):
        values = migrate(values)
    model = values.get("model") if isinstance(values, dict) else None
    codec = model.get("codec") if isinstance(model, dict) else None
    kinds = SECTIONS[codec if codec in list(SECTIONS) else "diffusion"]
    if fill and isinstance(values, dict):
        values = {name: {} for name in kinds} | values
    return from_dict(Config, values, path, fill, kinds)


def from_dict(
    cls: type[T], values: Any, path: str = "config", fill: bool = False, kinds: Mapping[str, type] | None = None
) -> T:
    """The dataclass `cls` from what `asdict` gave; `kinds`: the types of fields that have a choice of several."""
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must be an object with fields, not {values!r}.")
    hints = typing.get_type_hints(cls) | dict(kinds or {})
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
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if type(value) is hint:
        return value
    raise ConfigError(f"{path} must be of type {hint.__name__}, not {value!r}.")


def _closest(name: str, known: list[str]) -> str:
    match = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {match[0]}" if match else ""


def parse_command_line(args: list[str] | None = None) -> tuple[Config, argparse.Namespace]:
    """The valid configuration that `--preset NAME --field.path VALUE ...` describes, and train.py's own switches.

    Raises ConfigError for an unknown preset and for settings that are impossible or that nothing reads; an unknown
    field ends the program with tyro's message.
    """
    import tyro

    parser = Parser("Train a codec. --field.path VALUE sets any field of config.py (see --preset NAME --help-fields).")
    names = ", ".join(config.PRESETS)
    parser.add_argument("--preset", help=f"one of {names} (default: {config.DEFAULT})")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the configuration, the parameter counts and what differs from the preset, then stop",
    )
    for option, use in (("--data.mix", "trains"), ("--data.val", "training validates on")):
        parser.add_argument(
            option,
            nargs="+",
            action="extend",
            metavar="NAME=SOURCE:ROOT",
            help=f"what {use}, instead of what the preset has: any number of sets, each with ,weight=0.3 "
            ",scale-min=0.33 ,scale-max=1 ,role=pictures behind it as needed",
        )
    parser.add_argument("--help-fields", action="store_true", help="list every field with its default")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even if a GPU is there")
    parser.add_argument("--init", default="", metavar="CKPT", help="start from the weights of this checkpoint")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder of run folders (default: runs)")
    parser.add_argument(
        "--weights-dir", default=None, metavar="DIR", help="pretrained weights of losses, prepared by fetch_weights.py"
    )
    known, rest = parser.parse_known_args(args)
    preset = preset_named(known.preset or config.DEFAULT)
    named = named_fields(rest)
    _check_family(named, preset)
    mix, val = (vars(known).pop(name) for name in ("data.mix", "data.val"))
    start = dataclasses.replace(preset, data=_named_sets(preset.data, mix, val, named))
    # A preset has the sections of one family of codecs, and these alone have options.
    own = tyro.conf.AvoidSubcommands[Config]
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_shows_sets)
    with registry:
        chosen = tyro.cli(own, default=start, args=["--help"] if known.help_fields else rest, prog="train.py")
    validate(chosen, preset)
    return chosen, known


def describe(config: Config, preset: Config) -> str:
    """The whole configuration, the parameters of each part, and the fields in which it differs from its preset."""
    import torch
    import yaml

    from modules.codec import build_codec

    with torch.device("meta"):
        codec = build_codec(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in codec.named_children()}
    lines = [yaml.safe_dump(dataclasses.asdict(config), sort_keys=False).rstrip(), "parameters:"]
    lines += [f"  {name}: {n / 1e6:.3f} M" for name, n in count.items()]
    changed = [
        f"{name} = {now} (preset: {before})" for name, (before, now) in differences(flat(preset), flat(config)).items()
    ]
    last = f"differs from preset {preset.name} in: {', '.join(changed)}" if changed else f"as preset {preset.name}"
    return "\n".join([*lines, f"  total: {sum(count.values()) / 1e6:.3f} M", last])


def _named_sets(data: DataConfig, mix: list[str] | None, val: list[str] | None, named: set[str]) -> DataConfig:
    """The data of a preset with the sets of pictures that the user named: what is named is what trains.

    A data set, or the folder of one, takes the place of sets that only the preset gave. Of a mixture that is named
    without data.val, the first set is validated.
    """
    if named & {"data.dataset", *(field for field in flat(data, "data.") if field.endswith("_root"))}:
        data = dataclasses.replace(data, mix=(), val=())
    if mix is not None:
        data = dataclasses.replace(data, mix=tuple(read_set(words, "--data.mix") for words in mix))
        if "data.dataset" not in named:
            first = data.mix[0] if data.mix[0].source == "photos" else dataclasses.replace(data.mix[0], role="pairs")
            data = dataclasses.replace(data, val=(first,))
    if val is not None:
        data = dataclasses.replace(data, val=tuple(read_set(words, "--data.val") for words in val))
    return data


def read_set(words: str, option: str) -> MixConfig:
    """The set of pictures that NAME=SOURCE:ROOT,weight=0.3,... describes; all but NAME and SOURCE may be left out."""
    place, *settings = words.split(",")
    name, _, of = place.partition("=")
    source, _, root = of.partition(":")
    if not name or not source:
        raise ConfigError(f"{option} {words} is no set of pictures; write NAME=SOURCE:ROOT, for example a=folder:DIR.")
    fields: dict[str, Any] = {"name": name, "source": source, "root": root}
    if source == "photos":
        fields["role"] = "pictures"
    known = ["weight", "scale-min", "scale-max", "role"]
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in known or not equals:
            raise ConfigError(
                f"{option} {words} has {setting!r}{_closest(key, known)}; behind SOURCE:ROOT it may have "
                f"{', '.join(f'{field}=' for field in known)}."
            )
        if key != "role":
            try:
                fields[key.replace("-", "_")] = float(value)
            except ValueError:
                raise ConfigError(f"{option} {words} has {setting!r}, whose value is no number.") from None
        else:
            fields[key] = value
    return from_dict(MixConfig, fields, f"{option} {name}", fill=True)


def _shows_sets(info: Any) -> Any:
    """How tyro shows sets of pictures in --help-fields; the command line's own have been read before."""
    import tyro

    if info.type is not MixConfig:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME=SOURCE:ROOT",
        instance_from_str=lambda words: read_set(words[0], "a set"),
        is_instance=lambda value: isinstance(value, MixConfig),
        str_from_instance=lambda part: [f"{part.name}={part.source}:{part.root},weight={part.weight:g}"],
    )


def preset_named(name: str) -> Config:
    """The configuration of a preset. Raises ConfigError for an unknown one."""
    if name not in config.PRESETS:
        raise ConfigError(
            f"There is no preset {name!r}{_closest(name, list(config.PRESETS))}; config.py has "
            f"{', '.join(config.PRESETS)}."
        )
    return config.PRESETS[name]


def named_fields(args: list[str]) -> set[str]:
    """The dotted fields that command-line words such as `--data.val-limit 4` or `--model.no-variable-rate` name."""
    flags = (word[2:].partition("=")[0].replace("-", "_") for word in args if word.startswith("--"))
    return {name for flag in flags for name in (flag, flag.replace(".no_", "."))}


def _check_family(named: set[str], preset: Config) -> None:
    """Raise ConfigError for a setting that only codecs of another family have."""
    codec = preset.model.codec
    for name in sorted(named - settings_of(codec)):
        if readers := [other for other in SECTIONS if name in settings_of(other)]:
            raise ConfigError(
                f"Codec {codec} of the preset {preset.name} has no setting {name}; it is read by "
                f"{' and '.join(readers)}."
            )
