"""What the exact integers of the entropy model cost: the same network in floats, measured on the same latents."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data.pair import Pair, PairSource
from modules.codec import Codec, evaluation_mode, pad
from modules.entropy import (
    LIKELIHOOD_BOUND,
    SCALE_MIN,
    SCALE_STEP,
    SCALES,
    Coded,
    Hyperprior,
    gaussian_likelihood,
)
from modules.integer import ACTIVATION_BITS, WEIGHT_BITS, quantise
from modules.noise import payload_seed
from modules.transforms import HYPER_STRIDE
from utils.checkpoint import read_tensors
from utils.errors import CheckpointError
from utils.images import to_float, to_uint8
from utils.metrics.bootstrap import ClusterBootstrap, Interval
from utils.metrics.image import Psnr
from utils.report.rd import Curve, Difference, bjontegaard
from utils.training.training_state import STATE_FILE

Values = NDArray[np.float64]


class FloatEntropy(nn.Module):
    """The entropy model of a codec in float64, with nothing rounded but the symbols of z and y.

    h_s runs in floats with the weights `unrounded` if given, else with those that the integers stand for; means, gains
    and medians have no fixed point, scales are continuous between the same two ends, symbols never saturate, and bits
    are the ideal code length of the densities. The bound on likelihoods, 2^-22, is the model's own, in training too;
    without it outliers would cost the floats more.
    """

    def __init__(self, entropy: Hyperprior, unrounded: dict[str, Tensor] | None) -> None:
        super().__init__()
        self.entropy = copy.deepcopy(entropy).double()
        if unrounded is not None:
            self.entropy.h_s.load_state_dict(self.entropy.h_s.state_dict() | unrounded)

    @torch.no_grad()
    def forward(self, y: Tensor, level: Tensor) -> Coded:
        """y (B, M, h, w), level (B,) -> y_hat as float32, bits, and the symbols."""
        entropy, gain = self.entropy, self.entropy.gain(level)
        scaled = y.double() * gain
        medians = entropy.prior.medians()[:, None, None]
        z_symbols = torch.round(entropy.h_a(scaled) - medians)
        mean, index = entropy.h_s(z_symbols + medians, level).chunk(2, dim=1)
        mean = mean * gain if entropy.mean_before_gain else mean
        scale = SCALE_MIN * torch.exp(SCALE_STEP * index.clamp(0, SCALES - 1))
        y_symbols = torch.round(scaled - mean)
        bits = _bits(entropy.prior.values_likelihood(z_symbols + medians)) + _bits(
            gaussian_likelihood(y_symbols, scale)
        )
        return Coded(((y_symbols + mean) / gain).float(), bits, z_symbols, y_symbols)


def _bits(likelihoods: Tensor) -> Tensor:
    """(B, C, h, w) -> (B,)."""
    return -likelihoods.clamp(min=LIKELIHOOD_BOUND).log2().sum((1, 2, 3))


def unrounded_weights(codec: Codec, file: Path) -> dict[str, Tensor] | None:
    """The float weights of h_s that the integers of the checkpoint `file` were rounded from.

    They are the averaged ones of the training state beside it, or beside another checkpoint of the run for a `best`.
    None if no training state is there. Raises CheckpointError if those that are there round to other integers.
    """
    states = [path for path in (file.parent / STATE_FILE, *file.parent.parent.glob(f"step_*/{STATE_FILE}"))]
    prefix = "ema.entropy.h_s."
    found = [path for path in dict.fromkeys(states) if path.is_file()]
    for path in found:
        tensors = {k.removeprefix(prefix): v for k, v in read_tensors(path)[1].items() if k.startswith(prefix)}
        if _rounds_to(tensors, codec.entropy.h_s.state_dict()):
            return {name: tensor for name, tensor in tensors.items() if not name.endswith("_int")}
    if found:
        raise CheckpointError(
            f"No training state beside {file} has the float weights of its integers; name the folder of the step that "
            "it was made from, or copy the file away from the run to leave out the rounding of weights."
        )
    return None


def _rounds_to(floats: dict[str, Tensor], integers: dict[str, Tensor]) -> bool:
    for name, integer in integers.items():
        if name.endswith("_int"):
            value, bits = floats.get(name[:-4]), WEIGHT_BITS if name.endswith("weight_int") else ACTIVATION_BITS
            if value is None or not torch.equal(quantise(value, bits, name), integer.cpu()):
                return False
    return True


@dataclass
class Measured:
    """One rate; arrays over pairs. bpp of the ideal code length in floats and integers, and of true files; PSNR in dB
    of the reconstructions from both; the share of y's symbols that differ."""

    rate: float | None
    bpp_float: Values
    bpp_integer: Values
    bpp_file: Values
    psnr_float: Values
    psnr_integer: Values
    other_symbols: Values

    def means(self) -> dict[str, float | None]:
        """Every field's mean over the pairs."""
        arrays = {name: float(value.mean()) for name, value in vars(self).items() if name != "rate"}
        return {"rate": self.rate, **arrays}


def measure(codec: Codec, unrounded: dict[str, Tensor] | None, source: PairSource, rate: float | None) -> Measured:
    """Code and decode every pair twice at one rate: by files, and with the float entropy model on the same y."""
    floats = copy.deepcopy(codec)
    floats.entropy = FloatEntropy(codec.entropy, unrounded)  # type: ignore[assignment]
    rows = []
    with evaluation_mode(codec), evaluation_mode(floats):
        for index in range(len(source)):
            pair = source[index]
            x, pixels = to_float(pair.x), pair.x.shape[0] * pair.x.shape[1]
            coded, ideal = codec.code(x, rate), floats.code(x, rate)
            data = codec.pack(x, coded, rate)
            stream = codec.unpack(data)
            seed = payload_seed(stream.payload)
            y_hat = codec.decode_latent(stream)
            assert torch.equal(y_hat, coded.y_hat) and coded.y_symbols is not None and ideal.y_symbols is not None
            psnr = [_psnr(codec, latent, pair, stream.level, seed) for latent in (ideal.y_hat, y_hat)]
            other = float((coded.y_symbols != ideal.y_symbols).double().mean())
            bits = float(ideal.bits), float(coded.bits), 8 * len(data)
            rows.append([*(b / pixels for b in bits), *psnr, other])
    return Measured(rate, *np.array(rows, dtype=np.float64).T)


def _psnr(codec: Codec, y_hat: Tensor, pair: Pair, level: int, seed: int) -> float:
    height, width = pair.x.shape[:2]
    x_side = pad(to_float(pair.x_side)[None], HYPER_STRIDE) if codec.needs_side else None
    steps, gamma = codec.default_steps, codec.default_gamma
    x_hat = to_uint8(codec.synthesise(y_hat, x_side, torch.tensor([level]), steps, gamma, seed)[0, :, :height, :width])
    images = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] for image in (pair.x, x_hat))
    return Psnr()(*images)[0]


@dataclass(frozen=True)
class Loss:
    """BD-rate in percent of the integers against the floats, with its 95 % interval over groups, or why there is none.

    A positive figure is what exactness costs at equal PSNR.
    """

    rate: float | None
    interval: Interval | None
    reason: str


def loss(points: list[Measured], groups: list[str], of_files: bool) -> Loss:
    """Ideal code length of the integers, or with `of_files` true bytes, against the ideal code length of the floats."""

    def difference(weights: Values) -> Difference:
        rates = [p.bpp_file if of_files else p.bpp_integer for p in points]
        ours = _curve("integer", rates, [p.psnr_integer for p in points], weights)
        reference = _curve("float", [p.bpp_float for p in points], [p.psnr_float for p in points], weights)
        return bjontegaard(reference, ours, "psnr")

    whole = difference(np.ones(len(groups)))
    if whole.rate is None:
        return Loss(None, None, whole.reason_rate)

    def replicate(weights: Values) -> float:
        rate = difference(weights).rate
        return float("nan") if rate is None else rate

    return Loss(whole.rate, ClusterBootstrap(groups, draws=500).statistic(replicate), "")


def _curve(name: str, rates: list[Values], values: list[Values], weights: Values) -> Curve:
    means = [tuple(float(np.average(of_pairs, weights=weights)) for of_pairs in part) for part in (rates, values)]
    return Curve(name, None, None, None, means[0], means[1], (None,) * len(rates))
