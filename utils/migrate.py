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
    return sections_of_a_family(values)


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
