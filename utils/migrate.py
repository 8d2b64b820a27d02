"""Configurations that earlier versions of this project wrote, in the words of today: one dated function a change."""

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
    **{"loss.balance": 0.5, "loss.lambda_on": "distortion"},
}
"""The same of the codec `diffusion`; other codecs had these settings and read but two, which they still have."""
WITHOUT_EFFECT = ("data.warped_root",)
"""2026-11-29: settings that changed no experiment, and went."""


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """What `json` read of a configuration, as `config.py` has it now; a configuration of today stays as it is.

    Raises ConfigError for a value that this version can no longer express.
    """
    for change in (settings_that_went, parts_that_train, sets_of_pictures):
        values = change(values)
    return values


def settings_that_went(values: dict[str, Any]) -> dict[str, Any]:
    """2026-11-28 and 29: constants, and sections of their own for each family of codecs.

    Before, all codecs shared one set of fields (with `loss.lambda_on`), of which each read its own: the others never
    had an effect. Raises ConfigError for a constant of another value, since the model would not be the same.
    """
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
            if not (idle or setting in only or setting in WITHOUT_EFFECT):
                kept[name] = value
        result[section] = kept
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
