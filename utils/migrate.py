"""Configurations that earlier versions of this project wrote, in the words of today: one dated function a change."""

from __future__ import annotations

from typing import Any

from utils.errors import ConfigError

_OF_DIFFUSION = {
    "model": "variable_rate mean_before_gain side_dropout latent hyper analysis_channels analysis_blocks side_channels "
    "side_blocks synthesis_channels synthesis_blocks attend unet_channels unet_blocks embedding",
    "diffusion": "noise_ratio start_fraction denoise_fraction sampled_steps denoise_weight perceptual_floor "
    "realism_power data_std",
    "loss": "lambda_min lambda_max rates balance lambda_on",
}
_OF_PAPERS = {"model": "dim finest_context", "diffusion": "schedule timesteps", "loss": ""}

_CONSTANTS_OF_DIFFUSION: dict[str, dict[str, Any]] = {
    "diffusion": {
        "prediction": "x0",
        "noise_ratio": 0.1,
        "denoise_weight": 1.0,
        "realism_power": 1.0,
        "data_std": 0.12,
        "max_weight": 100.0,
    },
    "loss": {"balance": 0.5},
}
_CONSTANTS: dict[str, dict[str, Any]] = {
    "loss": {"rate_weight": 1.0},
    "train": {"gain_lr": 1e-2, "critic_lr": 5e-4, "quantile_lr": 1e-3},
}
"""Section -> field -> the only value that it has now; the first table for the codec `diffusion`, the second for all."""


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """What `json` read of a configuration, as `config.py` has it now; a configuration of today stays as it is.

    Raises ConfigError for a value that this version can no longer express.
    """
    changes = (sections_of_a_family, parts_that_train, settings_that_became_constants, sets_of_pictures, one_root_less)
    for change in changes:
        values = change(values)
    return values


def sections_of_a_family(values: dict[str, Any]) -> dict[str, Any]:
    """2026-11-28: each family of codecs has sections of its own, and what lambda multiplies follows from the family.

    Before, all shared one set of fields, of which each codec read its own: the others never had an effect. A codec
    `diffusion` whose lambda was on the rate keeps that field, which is then unknown: no such model can be trained now.
    """
    model, loss = values.get("model"), values.get("loss")
    if not isinstance(model, dict) or not isinstance(loss, dict) or "lambda_on" not in loss:
        return values
    codec = model.get("codec", "diffusion")
    gone = _OF_PAPERS if codec == "diffusion" else _OF_DIFFUSION
    result = dict(values)
    for section, names in gone.items():
        if isinstance(values.get(section), dict):
            result[section] = {name: value for name, value in values[section].items() if name not in names.split()}
    if codec == "diffusion" and loss["lambda_on"] == "distortion":
        del result["loss"]["lambda_on"]
    return result


def parts_that_train(values: dict[str, Any]) -> dict[str, Any]:
    """2026-11-28: train.parts takes the place of train.receiver_only and train.denoiser_only; the latter won."""
    train = values.get("train")
    if not isinstance(train, dict) or not train.keys() & {"receiver_only", "denoiser_only"}:
        return values
    train = dict(train)
    receiver, denoiser = train.pop("receiver_only", False), train.pop("denoiser_only", False)
    train["parts"] = "denoiser" if denoiser else "receiver" if receiver else "all"
    return values | {"train": train}


def settings_that_became_constants(values: dict[str, Any]) -> dict[str, Any]:
    """2026-11-28: settings that no preset and no experiment changed are constants of the modules that use them.

    Raises ConfigError for any other value, since the model would be trained or decoded differently.
    """
    model = values.get("model")
    ours = not isinstance(model, dict) or model.get("codec", "diffusion") == "diffusion"
    result = dict(values)
    for table in (_CONSTANTS_OF_DIFFUSION, _CONSTANTS) if ours else (_CONSTANTS,):
        for section, constants in table.items():
            fields = result.get(section)
            if not isinstance(fields, dict):
                continue
            for name, constant in constants.items():
                if fields.get(name, constant) != constant:
                    raise ConfigError(
                        f"{section}.{name} is {fields[name]}, and this version has only {constant}; use the version of "
                        "this project that wrote it."
                    )
            result[section] = {name: value for name, value in fields.items() if name not in constants}
    return result


_NEW_IN_DATA: dict[str, Any] = {"mix": [], "val": [], "root": ".", "cache": 0}
_NEW_IN_AUGMENT: dict[str, Any] = {
    "shapes": [],
    **dict.fromkeys(("hue", "gray", "neon", "permute", "flat", "text"), 0.0),
    **dict.fromkeys(("white_balance", "defects", "noise", "blur", "vertical"), 0.0),
    "jpeg": 0,
}


def sets_of_pictures(values: dict[str, Any]) -> dict[str, Any]:
    """2026-11-28: data.mix has sets of any number, each with its scales, in place of a weight for each source.

    Enlargement was uniform in data.augment.scale_min to scale_max, for a share data.augment.scaled of the samples; now
    it is log-uniform, and what is enlarged is a set beside the one that is not.
    """
    data = values.get("data")
    if not isinstance(data, dict) or "mixture" not in data:
        return values
    data, augment = dict(data), dict(data.get("augment", {}))
    weights = {source: weight for source, weight in (data.pop("mixture") or {}).items() if weight}
    low, high, scaled = (augment.pop(name, 1.0) for name in ("scale_min", "scale_max", "scaled"))
    if (low, high) == (1.0, 1.0):
        scaled = 0.0
    if scaled:
        weights = weights or {data.get("dataset", "kitti"): 1.0}
    mix = []
    for source, weight in weights.items():
        for suffix, share, scales in (("", 1 - scaled, (1.0, 1.0)), ("_scaled", scaled, (low, high))):
            if share:
                mix.append(
                    {
                        "name": source + suffix,
                        "source": source,
                        "root": "",
                        "weight": weight * share,
                        "scale_min": scales[0],
                        "scale_max": scales[1],
                        "role": "pairs",
                    }
                )
    data = _NEW_IN_DATA | data | {"mix": mix, "augment": _NEW_IN_AUGMENT | augment}
    return values | {"data": data}


def one_root_less(values: dict[str, Any]) -> dict[str, Any]:
    """2026-11-29: data.warped_root is gone, since a set has a root; where data lie changes no experiment."""
    data = values.get("data")
    if not isinstance(data, dict) or "warped_root" not in data:
        return values
    return values | {"data": {name: value for name, value in data.items() if name != "warped_root"}}
