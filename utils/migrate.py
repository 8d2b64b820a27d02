"""Configurations that earlier versions of this project wrote, in the words of today: one dated function a change."""

from __future__ import annotations

from typing import Any

_OF_DIFFUSION = {
    "model": "variable_rate mean_before_gain side_dropout latent hyper analysis_channels analysis_blocks side_channels "
    "side_blocks synthesis_channels synthesis_blocks attend unet_channels unet_blocks embedding",
    "diffusion": "noise_ratio start_fraction denoise_fraction sampled_steps denoise_weight perceptual_floor "
    "realism_power data_std",
    "loss": "lambda_min lambda_max rates balance lambda_on",
}
_OF_PAPERS = {"model": "dim finest_context", "diffusion": "schedule timesteps", "loss": ""}


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """What `json` read of a configuration, as `config.py` has it now; what is of today stays as it is."""
    return sets_of_pictures(sections_of_a_family(values))


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


_NEW_IN_DATA: dict[str, Any] = {"mix": [], "val": [], "root": ".", "warped_root": "", "cache": 0}
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
    scales = augment.pop("scale_min", 1.0), augment.pop("scale_max", 1.0)
    scaled = augment.pop("scaled", 1.0) if scales != (1.0, 1.0) else 0.0
    if scaled:
        weights = weights or {data.get("dataset", "kitti"): 1.0}
    mix = []
    for source, weight in weights.items():
        for suffix, share, (low, high) in (("", 1 - scaled, (1.0, 1.0)), ("_scaled", scaled, scales)):
            if share:
                mix.append(
                    {
                        "name": source + suffix,
                        "source": source,
                        "root": "",
                        "weight": weight * share,
                        "scale_min": low,
                        "scale_max": high,
                        "role": "pairs",
                    }
                )
    data = _NEW_IN_DATA | data | {"mix": mix, "augment": _NEW_IN_AUGMENT | augment}
    return values | {"data": data}
