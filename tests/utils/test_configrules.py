"""One place says which settings can be together: nothing impossible, and nothing that would be ignored."""

import sys
from dataclasses import asdict, replace
from typing import Any

import pytest
from script_files import one_line
from tiny import tiny_config
from tiny_methods import tiny_method
from tiny_paper import tiny_paper

import train
from config import PRESETS, SECTIONS, AugmentConfig, Config, DataConfig, MixConfig
from utils import cli
from utils.configio import parse_command_line, read_config
from utils.configrules import (
    INTERVALS,
    MS_SSIM_MIN_EDGE,
    READ_IF,
    check_codec,
    effective,
    entries,
    flat,
    unread,
    validate,
)
from utils.errors import ConfigError
from utils.metrics.image import MsSsimDb
from utils.migrate import migrate


def with_fields(config: Config, **parts: dict[str, Any]) -> Config:
    """data__augment={"width": 80}, model={"latent": 8}, ..."""
    for path, fields in parts.items():
        outer, _, inner = path.partition("__")
        section = getattr(config, outer)
        new = replace(section, **({inner: replace(getattr(section, inner), **fields)} if inner else fields))
        config = replace(config, **{outer: new})
    return config


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_valid_and_has_no_idle_setting(name: str) -> None:
    validate(PRESETS[name])


def test_every_number_has_its_bounds_and_every_rule_names_a_setting() -> None:
    bounded = [name for names in INTERVALS.values() for name in names.split()]
    assert len(bounded) == len(set(bounded))
    settings: dict[str, Any] = {}
    for codec, kinds in SECTIONS.items():
        own = flat(Config(**{name: kind() for name, kind in kinds.items()}))
        settings |= own
        for rule in READ_IF[""] + READ_IF.get(codec, ()):
            assert set(rule.fields.split()) <= own.keys(), rule
    settings |= flat(Config(data=DataConfig(augment=AugmentConfig(shapes=((64, 64),)))))
    first = {name: next(iter(entries(value)), None) for name, value in settings.items()}
    numbers = {name for name, value in first.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
    assert numbers == set(bounded)
    assert MsSsimDb.min_side == MS_SSIM_MIN_EDGE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("cdc_eps --model.latent 32", r"Codec cdc .* no setting model\.latent; it is read by diffusion"),
        ("cdc_eps --diffusion.sampled-steps 3", r"Codec cdc .* no setting diffusion\.sampled_steps"),
        ("dicm_paper --loss.lambda-max=0.1", r"lambda_max is 0\.1, but codec dicm does not read it with model\.v"),
        ("small --model.dim 128", r"Codec diffusion .* no setting model\.dim; it is read by cdc and dicm"),
        ("small --loss.lmbda 0.5", r"loss\.lmbda is 0\.5, but codec diffusion does not read it with model\.variable_"),
        ("small --model.no-variable-rate --loss.rates 0.5 0.5", r"loss\.rates is 0\.5, 0\.5, but codec diffusion"),
        ("small --model.fusion add --model.attend True True False", r"model\.attend is True, True, False"),
        ("small --model.fusion none --model.side-blocks 2 2 2", r"model\.side_blocks is 2, 2, 2"),
        ("small --diffusion.perceptual-floor 0.5", r"perceptual_floor is 0\.5"),
        ("small --diffusion.denoise-fraction 0 --diffusion.sampled-steps 2", r"sampled_steps is 2"),
        ("small --diffusion.gamma 0.5", r"gamma is 0\.5; .*denoiser has not been trained"),
        ("small --loss.perceptual-weight 1", r"loss\.perceptual_weight is 1"),
        (
            "cdc_eps --diffusion.max-weight 5",
            r"max_weight is 5, but codec cdc does not read it with prediction epsilon",
        ),
        ("small --data.kitti-root K", r"data\.kitti_root is K, but nothing reads it since kitti is no source"),
        ("small --data.dataset kitti --data.folder-root F", r"data\.folder_root is F, but nothing reads it"),
        ("small --data.protocol ndic", r"data\.protocol is ndic"),
        ("demo --data.root R", r"data\.root is R, but nothing reads it without a set below it"),
        ("demo --data.augment.noise 3", r"data\.augment\.noise is 3, .* with data\.augment\.defects 0"),
        ("small --data.augment.width 512", r"data\.augment\.width is 512, .* with data\.augment\.shapes"),
    ],
)
def test_a_setting_that_would_be_ignored_is_named(arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_command_line(["--preset", *arguments.split()])


@pytest.mark.parametrize(
    "arguments",
    [
        "small --model.fusion none",
        "demo --model.fusion add",
        "dicm_paper --data.dataset cityscapes",
        "small_one_step --loss.perceptual none --loss.perceptual-weight 0 --loss.adversarial-weight 0",
        "dicm_no_side --model.codec cdc --model.dim 8",
        "demo --data.dataset folder --data.folder-root F",
        "small --data.mix kitti=kitti --data.kitti-root K --data.protocol ndic",
        "small --model.no-variable-rate --loss.lmbda 0.5",
    ],
)
def test_what_only_the_preset_set_may_fall_idle(arguments: str) -> None:
    """The user's choice has made it so, and knows: the preset's other settings are no wish of the user's."""
    parse_command_line(["--preset", *arguments.split()])


@pytest.mark.parametrize("switches", [[], ["--dry-run"]])
def test_training_and_a_dry_run_refuse_alike(switches, tmp_path, monkeypatch, capsys):
    for fields in ("--preset cdc_eps --model.latent 32", "--train.steps 0"):
        monkeypatch.setattr(sys, "argv", ["train.py", "--runs", str(tmp_path), *switches, *fields.split()])
        with pytest.raises(SystemExit):
            cli.run(train.main)
        one_line((1, *capsys.readouterr()))
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": {"steps": 0}}, r"train\.steps is 0; it must lie in \[1, inf\)"),
        ({"train": {"ema": 1.0}}, r"train\.ema is 1; it must lie in \[0, 1\)"),
        ({"train": {"lr": float("nan")}}, r"train\.lr is nan"),
        ({"train": {"seed": -1}}, r"train\.seed is -1"),
        ({"train": {"accumulation": 3}}, r"train\.batch_size 4 is no multiple of train\.accumulation 3"),
        ({"model": {"side_dropout": 1.5}}, r"model\.side_dropout is 1\.5"),
        ({"model": {"unet_channels": (8, 16)}}, r"model\.unet_channels has 2 entries"),
        ({"model": {"unet_channels": (8, 0, 16)}}, r"model\.unet_channels is 8, 0, 16"),
        ({"model": {"fusion": "row_attention", "attend": (False,) * 3}}, "would attend nowhere"),
        ({"model": {"fusion": "aligned", "attend": (True, True, False)}}, "its first entry to False"),
        ({"diffusion": {"sampled_steps": 1}}, r"sampled_steps is 1; it is 0, or at least 2"),
        ({"loss": {"rates": (0.4,)}}, r"loss\.rates is 0\.4; it has two rates"),
        ({"loss": {"rates": (0.5, 0.4)}}, "the lowest and the highest"),
        ({"loss": {"rates": (-0.1, 1.0)}}, r"loss\.rates is -0\.1, 1"),
        ({"loss": {"lambda_min": 0.5}}, r"loss\.lambda_min is 0\.5, above"),
        ({"loss": {"perceptual": "effnet"}}, r"loss\.perceptual is effnet, but loss\.perceptual_weight is 0"),
        ({"loss": {"adversarial_weight": 0.1}}, r"adversarial_weight needs loss\.perceptual effnet"),
        (
            {"loss": {"adversarial_weight": 0.1, "perceptual": "lpips_vgg", "perceptual_weight": 1.0}},
            r"adversarial_weight needs loss\.perceptual effnet",
        ),
        ({"loss": {"ms_ssim_weight": 1.0}}, r"64x64, but MS-SSIM.* needs edges of 97 pixels"),
        ({"data": {"mix": (MixConfig("a", "folder", "D", -1.0),)}}, r"a of data\.mix has the weight -1"),
        ({"data": {"mix": (MixConfig("a", "folder", "D", 0.0),)}}, r"No set of data\.mix has a weight"),
        ({"data": {"mix": (MixConfig("a", "folder"), MixConfig("a", "kitti"))}}, "a name of its own"),
        ({"data": {"val": (MixConfig("a/b", "folder"),)}}, r"a/b of data\.val needs a name"),
        ({"data": {"mix": (MixConfig("a", "folder", "D", 1.0, 2.0, 1.0),)}}, "scales from 2 to 1"),
        ({"data": {"mix": (MixConfig("a", "photos", role="pictures"),)}}, "a=photos:DIR"),
        ({"data": {"mix": (MixConfig("a", "photos", "D"),)}}, "set role=pictures"),
        ({"data": {"mix": (MixConfig("a", "builtin", "D"),)}}, "builtin is made here"),
        (
            {"data": {"mix": (MixConfig("a", "folder", role="pictures"),)}, "model": {"side_dropout": 0.0}},
            "the model has no null input",
        ),
        ({"data__augment": {"shapes": ((64, 64, 64),)}}, "each shape is a height and a width"),
        ({"data__augment": {"shapes": ((64, 64), (80, 64))}}, r"64x80; data\.augment\.shapes must be multiples"),
        ({"data__augment": {"width": 80}}, "80x64; .* multiples of 64"),
        ({"data__augment": {"exposure": -0.1}}, r"data\.augment\.exposure is -0\.1"),
    ],
)
def test_impossible_settings_are_errors(fields: dict[str, dict[str, Any]], message: str) -> None:
    validate(tiny_config())
    with pytest.raises(ConfigError, match=message):
        validate(with_fields(tiny_config(), **fields))


@pytest.mark.parametrize(
    ("preset", "fields", "message"),
    [
        ("cdc_eps", {"model": {"fusion": "add"}}, "fusion"),
        ("cdc_eps", {"model": {"dim": 0}}, "dim"),
        ("cdc_eps", {"diffusion": {"schedule": "cosine_offset"}}, "linear"),
        ("cdc_x", {"diffusion": {"timesteps": 0}}, "timesteps"),
        ("cdc_x", {"diffusion": {"timesteps": 4, "steps": 5}}, "as many as diffusion.steps"),
        ("dicm_paper", {"model": {"finest_context": 0}}, "finest_context"),
        ("ndic_cam", {"model": {"height": 128}}, "made for 64x128 alone"),
        ("ndic_cam", {"model": {"width": 72}}, "multiples of 64"),
        ("ndsc", {"model": {"bits": 0}}, r"model.bits is 0; it must lie in \[1, 16\]"),
        ("ldmic", {"train": {"parts": "denoiser"}}, "codec ldmic has none"),
        ("ldmic", {"loss": {"lambda_min": 1e-3}}, "variable_rate False"),
        ("ldmic_vr", {"loss": {"lmbda": 0.5}}, "variable_rate True"),
        ("dsin", {"loss": {"disparity_weight": 0.1}}, "it matches nothing"),
    ],
)
def test_settings_that_published_codecs_cannot_have(preset: str, fields: dict[str, Any], message: str) -> None:
    config = tiny_method(preset)
    validate(config, config)
    with pytest.raises(ConfigError, match=message):
        validate(with_fields(config, **fields), config)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a"])
def test_the_name_of_a_run_is_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="name of a run"):
        validate(tiny_config(name))


def test_the_sections_are_those_of_one_family() -> None:
    mixed = replace(tiny_config(), diffusion=tiny_paper("cdc_x").diffusion)
    with pytest.raises(
        ConfigError, match="section diffusion is a PaperDiffusionConfig, but codec diffusion has a Diff"
    ):
        check_codec(mixed)


def as_before(config: Config, **model: Any) -> dict[str, Any]:
    """JSON as it was while one set of fields served all codecs; `model` replaces fields of it."""
    ours = asdict(Config())
    for section, name in (("model", "hyper_width"), ("model", "shortcut"), ("loss", "disparity_weight")):
        del ours[section][name]  # Came later.
    old: dict[str, Any] = asdict(config)
    noise = {"prediction": "x0", "noise_ratio": 0.1, "denoise_weight": 1.0, "realism_power": 1.0, "data_std": 0.12}
    extra = {
        "model": ours["model"] | {"dim": 64, "finest_context": 3},
        "diffusion": ours["diffusion"] | noise | {"schedule": "cosine", "timesteps": 0, "max_weight": 100.0},
        "loss": ours["loss"] | {"lambda_on": type(config.loss).lambda_on, "balance": 0.5, "rate_weight": 1.0},
        "train": {"gain_lr": 1e-2, "critic_lr": 5e-4, "quantile_lr": 1e-3},
    }
    values = old | {section: fields | old[section] for section, fields in extra.items()}
    values["model"] |= model
    return values


@pytest.mark.parametrize("name", ["small", "small_no_side_mean", "dicm_paper", "cdc_x", "ndsc"])
def test_a_configuration_of_before_is_read(name: str) -> None:
    """What its codec never read may have had any value."""
    config = PRESETS[name]
    idle = {"dim": 7} if config.model.codec == "diffusion" else {"latent": 7}
    assert read_config(as_before(config, **idle)) == config and migrate(asdict(config)) == asdict(config)


@pytest.mark.parametrize(
    ("setting", "value", "constant"),
    [
        ("diffusion.prediction", "v", "x0"),
        ("diffusion.data_std", 0.2, "0.12"),
        ("loss.balance", 0.0, "0.5"),
        ("loss.rate_weight", 2.0, "1.0"),
        ("train.gain_lr", 1.0, "0.01"),
    ],
)
def test_a_setting_that_became_a_constant_must_have_had_its_value(setting: str, value: Any, constant: str) -> None:
    values = as_before(tiny_config())
    section, name = setting.split(".")
    values[section][name] = value
    with pytest.raises(ConfigError, match=rf"{setting} is {value}, and this version has only {constant};"):
        read_config(values)


def test_how_a_codec_was_trained_before_does_not_keep_it_from_loading() -> None:
    values = as_before(tiny_config())
    values["data"] = {
        "dataset": "folder",
        "mixture": {"folder": 0.9, "synthetic": 0.1},
        "augment": {"height": 64, "width": 64, "scale_min": 1.0, "scale_max": 2.0, "scaled": 0.5},
    }
    values["train"] |= {"receiver_only": True, "denoiser_only": True}
    values["loss"] |= {"rate_warmup": 1000}
    assert read_config(values, fill=True).data == DataConfig("folder", augment=AugmentConfig(height=64, width=64))


def test_configurations_that_differ_in_what_nothing_reads_are_one_experiment() -> None:
    config = with_fields(tiny_config(), model={"fusion": "none"})
    other = with_fields(config, loss={"lmbda": 0.5}, data={"protocol": "ndic"})
    assert {"loss.lmbda", "data.protocol"} <= unread(other).keys() and effective(other) == effective(config)
    assert effective(with_fields(config, train={"lr": 1.0})) != effective(config)
