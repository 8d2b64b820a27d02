"""Checkpoints of earlier versions of this project: their configuration in the words of today."""

from __future__ import annotations

import dataclasses
from typing import Any

from config import SECTIONS
from utils.errors import ConfigError

ONLY_VALUES: dict[str, Any] = {
    "loss.rate_weight": 1.0,
    "train.gain_lr": 1e-2,
    "train.critic_lr": 5e-4,
    "train.quantile_lr": 1e-3,
}
"""2026-11-28: settings that became constants, with the only value that this version has."""
ONLY_VALUES_OF_DIFFUSION: dict[str, Any] = {
    **{"diffusion.prediction": "x0", "diffusion.noise_ratio": 0.1, "diffusion.denoise_weight": 1.0},
    **{"diffusion.realism_power": 1.0, "diffusion.data_std": 0.12, "diffusion.max_weight": 100.0},
    **{"loss.balance": 0.5, "loss.lambda_on": "distortion", "model.mean_before_gain": False},
}
"""The same of the codec `diffusion`; other codecs had these settings and read but two, which they still have."""
WITHOUT_EFFECT = (
    *("data.mixture", "data.augment.scale_min", "data.augment.scale_max", "data.augment.scaled", "data.warped_root"),
    *("train.receiver_only", "train.denoiser_only"),
)
"""2026-11-28 and 29: settings of training that became others; they change nothing in a codec that is trained."""


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """What `json` read of a configuration, as `config.py` has it now; a configuration of today stays as it is.

    Before 2026-11-28 all codecs shared one set of fields (with `loss.lambda_on`), of which each read its own: the
    others never had an effect. Raises ConfigError for a constant of another value: the model would not be the same.
    """
    values = _without(values, "")
    model, loss = (values.get(name) for name in ("model", "loss"))
    codec = model.get("codec", "diffusion") if isinstance(model, dict) else "diffusion"
    own = SECTIONS[codec if codec in list(SECTIONS) else "diffusion"]
    only = ONLY_VALUES | (ONLY_VALUES_OF_DIFFUSION if codec == "diffusion" else {})
    shared = isinstance(loss, dict) and "lambda_on" in loss
    result = dict(values)
    for section, fields in values.items():
        if not isinstance(fields, dict):
            continue
        known, of_any = set(), set()
        if section in own:
            known = {f.name for f in dataclasses.fields(own[section])}
            of_any = {f.name for kinds in SECTIONS.values() for f in dataclasses.fields(kinds[section])}
        kept = {}
        for name, value in fields.items():
            setting = f"{section}.{name}"
            if setting in only and value != only[setting]:
                raise ConfigError(
                    f"{setting} is {value}, and this version has only {only[setting]}; use the version of this project "
                    "that wrote it."
                )
            idle = shared and name not in known and (name in of_any or setting in ONLY_VALUES_OF_DIFFUSION)
            if not (idle or setting in only):
                kept[name] = value
        result[section] = kept
    return result


def _without(fields: dict[str, Any], path: str) -> dict[str, Any]:
    """The fields, at every depth, that are not in WITHOUT_EFFECT."""
    return {
        name: _without(value, f"{path}{name}.") if isinstance(value, dict) else value
        for name, value in fields.items()
        if path + name not in WITHOUT_EFFECT
    }
