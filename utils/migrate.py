"""Checkpoints of earlier versions of this project: their configuration in the words of today."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from config import SECTIONS
from utils.configrules import settings_of
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
    *("train.receiver_only", "train.denoiser_only", "loss.rate_warmup"),
)
"""2026-11-28 to 30: settings of training that became others or went; they change nothing in a codec that is trained."""


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """What `json` read of a configuration, as `config.py` has it now; a configuration of today stays as it is.

    Before 2026-11-28 all codecs shared one set of fields (with `loss.lambda_on`), of which each read its own: the
    others never had an effect. Raises ConfigError for a constant of another value: the model would not be the same.
    """
    values = _without(values, WITHOUT_EFFECT)
    model, loss = (values.get(name) for name in ("model", "loss"))
    codec = model.get("codec", "diffusion") if isinstance(model, dict) else "diffusion"
    only = ONLY_VALUES | (ONLY_VALUES_OF_DIFFUSION if codec == "diffusion" else {})
    idle: set[str] = set()
    if isinstance(loss, dict) and "lambda_on" in loss:
        idle = set(ONLY_VALUES_OF_DIFFUSION).union(*map(settings_of, SECTIONS))
        idle -= settings_of(codec if codec in list(SECTIONS) else "diffusion")
    for section, fields in values.items():
        for name, value in fields.items() if isinstance(fields, dict) else ():
            setting = f"{section}.{name}"
            if setting in only and value != only[setting]:
                raise ConfigError(
                    f"{setting} is {value}, and this version has only {only[setting]}; use the version of this project "
                    "that wrote it."
                )
    return _without(values, idle | only.keys())


def _without(fields: dict[str, Any], dropped: Container[str], path: str = "") -> dict[str, Any]:
    """The fields, at every depth, but those that are `dropped`."""
    return {
        name: _without(value, dropped, f"{path}{name}.") if isinstance(value, dict) else value
        for name, value in fields.items()
        if path + name not in dropped
    }
