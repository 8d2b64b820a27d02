"""Validation inside training: files are made, read back and decoded, as evaluate.py does, on a few pairs and rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from config import BaseLossConfig, Config
from data.pair import PairSource
from data.tensors import to_float, to_uint8
from modules.codec import Codec, evaluation_mode
from modules.losses import lambda_of
from utils.cli import bar
from utils.files import png_bytes, write_whole


def rates_of(loss: BaseLossConfig) -> tuple[float, ...]:
    """Of a variable-rate model those that are validated: the lowest that is trained, the middle and the highest."""
    low, high = loss.rates
    return tuple(sorted({low, (low + high) / 2, high}))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 images."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-10)))


def is_objective(loss: BaseLossConfig) -> bool:
    """Whether the validation loss is what training minimises, rate + lambda x MSE, so that it can tell the best."""
    others = loss.coarse_weight > 0 or loss.ms_ssim_weight > 0 or loss.has_perceptual
    return loss.distortion == "mse" and loss.lambda_on == "distortion" and not others


def _validate_set(
    codec: Codec, source: PairSource, config: Config, sample_file: Path, given_up: Callable[[], bool] = lambda: False
) -> dict[str, float] | None:
    """Mean bpp of true files and PSNR at each rate, with the correct side image and with none, and the validation loss.

    The loss is bpp + lambda x MSE, or lambda x bpp + MSE where lambda is on the rate, of 8-bit images, the mean over
    rates. Single pictures are decoded without a side image.
    The first pair's original, side image and reconstructions go to `sample_file` as one picture. `codec` is frozen.
    `given_up` is asked before each pair; once it is true the result is None.
    """
    loss = config.loss
    rates: tuple[float | None, ...] = rates_of(loss) if codec.variable_rate else (None,)
    values: dict[str, float] = {}
    losses = []
    strip: list[np.ndarray] = []
    with evaluation_mode(codec):
        for rate in rates:
            suffix = "" if rate is None else f"@{rate:g}"
            bpp, quality, quality_none, mse = [], [], [], []
            for index in bar(f"validating{suffix}", "pair")(range(len(source))):
                if given_up():
                    return None
                pair = source[index]
                data = codec.compress(to_float(pair.x), rate)
                x_hat = to_uint8(codec.decompress(data, to_float(pair.x_side) if pair.has_side else None))
                bpp.append(8 * len(data) / (pair.x.shape[0] * pair.x.shape[1]))
                quality.append(psnr(pair.x, x_hat))
                mse.append(float(np.mean((pair.x.astype(np.float64) - x_hat) ** 2)))
                if codec.needs_side and codec.accepts_no_side and pair.has_side:
                    quality_none.append(psnr(pair.x, to_uint8(codec.decompress(data, None))))
                if index == 0:
                    strip += ([pair.x, pair.x_side] if not strip else []) + [x_hat]
            lmbda = float(lambda_of(loss, torch.tensor([rate or 0.0]), codec.variable_rate))
            on_rate, on_quality = (lmbda, 1.0) if loss.lambda_on == "rate" else (1.0, lmbda)
            losses.append(on_rate * np.mean(bpp) + on_quality * np.mean(mse))
            values[f"val/bpp{suffix}"] = float(np.mean(bpp))
            values[f"val/psnr{suffix}"] = float(np.mean(quality))
            if quality_none:
                values[f"val/psnr_no_side{suffix}"] = float(np.mean(quality_none))
    values["val/loss"] = float(np.mean(losses))
    write_whole(sample_file, png_bytes(np.concatenate(strip)))
    return values


def validate(
    codec: Codec,
    sets: Mapping[str, PairSource],
    config: Config,
    sample_file: Path,
    given_up: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """The figures of each set, which are called val/SET/bpp@0 and so on; val/loss is the mean of their losses.

    One set alone needs no name: val/bpp@0. The pictures are `sample_file`, and for further sets NAME_SET.png beside it.
    """
    values: dict[str, float] = {}
    losses = []
    for number, (name, source) in enumerate(sets.items()):
        file = sample_file.with_stem(f"{sample_file.stem}_{name}") if number else sample_file
        found = _validate_set(codec, source, config, file, given_up)
        if found is None:
            return None
        losses.append(found["val/loss"])
        values |= {key.replace("val/", f"val/{name}/") if len(sets) > 1 else key: value for key, value in found.items()}
    return values | {"val/loss": float(np.mean(losses))}
