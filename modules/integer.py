"""Convolutions whose results are the same integers on every machine, and the proof that they are.

What feeds the entropy coder must be bit-identical at both ends (Ballé, Johnston, Minnen, "Integer Networks for Data
Compression with Latent-Variable Models", ICLR 2019). Here weights and activations are fixed-point integers carried in
float64.

Proof. float64 holds every integer of magnitude at most 2^53, so an addition or product whose true result is such an
integer rounds nothing, and a chain of them gives one result whatever the order, threads, vector width, fused
multiply-adds or device. It remains to bound the intermediate results of a layer:
1. Activations a are integers with |a| <= A = 2^20 - 1: layers clamp their outputs, and `Hyperprior` checks z_hat.
2. A product is w a, and any partial sum of them, in whatever order, is at most A S, where S is the sum of |w| over the
   inputs and the window of one output. After upsampling, the weights w of one window that meet the same a are added
   first: an exact sum of int32, at most the sum of their |w|, so that A S bounds these products and sums too.
3. The bias of rate level l is a mean, (b[e] (16 - f) + b[e + 1] f) / 16, of two int32: at most B = max |b| and exact,
   since 4 more fractional bits make at most 35; 2^14 times it is an integer. Sum and bias are at most A S + 2^14 B.
4. Slope 1/4 and the division by 2^14 only move the exponent. Rounding adds a half before `floor`, which is at most 2^15
   in the unit of the sum: the largest magnitude of all is A S + 2^14 B + 2^15, which `largest_sum` computes.
5. `check_exact` compares that with 2^53 for every output of every layer, in unbounded integers: when the integers are
   derived from the float weights, before a checkpoint is saved, and after one is loaded.
The bound is on the worst case, not on a sample.
Winograd and FFT convolutions multiply by fractions, which this does not cover: hence windows and a matrix product.

Upsampling by u and a convolution is computed as u^2 smaller convolutions before the upsampling, one for each phase of
the output. Where a line is repeated u times, output u i + p is phase p at position i of the line. The taps of its
kernel that fall on one position are added up beforehand: with u = 2, a window of 2 x 2 positions stands for a kernel of
3 x 3, and one of 3 x 3 for 5 x 5. Nothing but sums is rearranged, so the integers are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.derived import Derived
from utils.errors import CheckpointError

ACTIVATION_BITS = 8
"""Fractional bits of an activation: the integer a stands for a / 2^8."""
WEIGHT_BITS = 14
"""Fractional bits of a weight: the integer w stands for w / 2^14."""
ACTIVATION_LIMIT = 2**20
"""Activations are clamped to +-(2^20 - 1) / 2^8 = +-4096."""
EXACT_LIMIT = 2**53
"""float64 holds every integer up to this one."""
LEAKY_SLOPE = 0.25
"""A power of two, so that the product is exact: the nearest to the 0.2 of published hyperpriors."""
STRIP_BYTES = 2**26
"""Upper bound of the windows that `integer_forward` holds at a time; those of at least one row of its input are."""
KNOT_SPACING = 16
"""Rate levels between two knots of a level-dependent bias; a power of two keeps the interpolation exact."""


@dataclass(frozen=True)
class Phases:
    """The merged kernels, for channels-last images: positions then are rows of the matrix product.

    Where positions are few, that is several times faster than positions as columns. `weight` (u^2, t x t x inputs,
    outputs) holds the kernels of the phases, rows before columns. In either direction, the window of phase p at
    position i has the size t = `size` and begins at position i - `before` + `first[p]`.
    """

    weight: Tensor
    size: int
    before: int
    first: list[int]

    @classmethod
    def of(cls, weight: Tensor, upsample: int) -> Phases:
        """From a kernel (outputs, inputs, k, k), k odd, that is centred on the output."""
        outputs, _, kernel, _ = weight.shape
        positions = [[(p + k - kernel // 2) // upsample for k in range(kernel)] for p in range(upsample)]
        size = max(line[-1] - line[0] for line in positions) + 1
        falls_on = weight.new_zeros(upsample, size, kernel)
        for phase, line in enumerate(positions):
            for tap, position in enumerate(line):
                falls_on[phase, position - line[0], tap] = 1
        merged = torch.einsum("ptk,qul,oikl->pqtuio", falls_on, falls_on, weight)
        before = -positions[0][0]
        return cls(
            merged.reshape(upsample**2, -1, outputs).contiguous(),
            size,
            before,
            [line[0] + before for line in positions],
        )

    def windows(self, x: Tensor) -> Tensor:
        """x (B, H, W, C), zero outside -> a view of its windows (B, rows, columns, t, t, C); see `sums`."""
        after = max(self.first) + self.size - 1 - self.before
        x = F.pad(x, (0, 0, self.before, after, self.before, after))
        return x.unfold(1, self.size, 1).unfold(2, self.size, 1).permute(0, 1, 2, 4, 5, 3)

    def sums(self, windows: Tensor, top: int, bottom: int, width: int) -> Tensor:
        """The convolution in `width` columns of rows `top` to `bottom`, exclusive: (u^2, B, rows x width, outputs)."""
        parts = [windows[:, top + i : bottom + i, j : j + width] for i in self.first for j in self.first]
        phases, taps, outputs = self.weight.shape
        columns = torch.stack(parts).view(phases, -1, taps)
        return torch.bmm(columns, self.weight).view(phases, len(windows), -1, outputs)

    def bytes_of(self, positions: int) -> int:
        """Memory that `sums` takes for the windows of so many positions."""
        return positions * self.weight[:, :, 0].numel() * self.weight.element_size()


@dataclass(frozen=True)
class LayerSpec:
    """One layer of an integer network: nearest upsampling, then a k x k convolution, then an activation."""

    inputs: int
    outputs: int
    kernel: int = 3
    upsample: int = 1
    activation: Literal["relu", "leaky_relu", "none"] = "relu"


def quantise(value: Tensor, bits: int, name: str) -> Tensor:
    """float tensor -> nearest fixed-point integer with `bits` fractional bits, as int32 on the CPU.

    Raises CheckpointError, which says `name`, for values that are not finite or do not fit.
    """
    scaled = torch.floor(value.detach().cpu().double() * 2.0**bits + 0.5)
    if not bool((scaled.abs() < 2**31).all()):
        raise CheckpointError(
            f"{name} are not finite, or too large for 32 bits of which {bits} are fractional; lower the learning rate "
            "and train again from an earlier checkpoint."
        )
    return scaled.to(torch.int32)


class IntegerConv(nn.Module):
    """One `LayerSpec` with a bias that may depend on the rate level.

    `forward` is the ordinary float computation, for training. `integer_forward` is the exact one; it uses the frozen
    integers that `freeze` derives from the float weights and that a checkpoint stores.
    """

    weight_int: Tensor
    bias_int: Tensor

    def __init__(self, spec: LayerSpec, levels: int = 1) -> None:
        super().__init__()
        self.spec = spec
        knots = (levels + KNOT_SPACING - 1) // KNOT_SPACING + 1 if levels > 1 else 1
        conv = nn.Conv2d(spec.inputs, spec.outputs, spec.kernel)
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros(knots, spec.outputs))
        self.register_buffer("weight_int", torch.zeros(self.weight.shape, dtype=torch.int32))
        self.register_buffer("bias_int", torch.zeros(self.bias.shape, dtype=torch.int32))
        self._float64: Derived[tuple[Phases, Tensor]] = Derived()

    def _level_bias(self, bias: Tensor, level: Tensor) -> Tensor:
        """(knots, C) and integer rate levels (B,) -> (B, C): b[e] (1 - f) + b[e + 1] f between knots e and e + 1."""
        if bias.shape[0] == 1:
            return bias.expand(level.shape[0], -1)
        left = torch.div(level, KNOT_SPACING, rounding_mode="floor")
        fraction = ((level - left * KNOT_SPACING).to(bias.dtype) / KNOT_SPACING)[:, None]
        return bias[left] * (1 - fraction) + bias[left + 1] * fraction

    def kernel(self) -> Tensor:
        """The float weights that count."""
        return self.weight

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """x (B, inputs, H, W) float, level (B,) int64 -> (B, outputs, upsample * H, upsample * W)."""
        if self.spec.upsample > 1:
            x = F.interpolate(x, scale_factor=self.spec.upsample, mode="nearest")
        x = F.conv2d(x, self.kernel(), padding=self.spec.kernel // 2)
        x = x + self._level_bias(self.bias, level)[:, :, None, None]
        if self.spec.activation == "relu":
            return F.relu(x)
        return F.leaky_relu(x, LEAKY_SLOPE) if self.spec.activation == "leaky_relu" else x

    @torch.no_grad()
    def freeze(self, name: str = "an integer layer") -> None:
        """Derive the integers from the float weights; CheckpointError, which says `name`, if they do not fit."""
        self.weight_int.copy_(quantise(self.kernel(), WEIGHT_BITS, f"The weights of {name}"))
        self.bias_int.copy_(quantise(self.bias, ACTIVATION_BITS, f"The biases of {name}"))

    @torch.no_grad()
    def thaw(self) -> None:
        """Set the float weights to what the frozen integers stand for (after loading a checkpoint)."""
        self.weight.copy_((self.weight_int.cpu().double() / 2**WEIGHT_BITS).float())
        self.bias.copy_((self.bias_int.cpu().double() / 2**ACTIVATION_BITS).float())

    def largest_sum(self) -> int:
        """The largest magnitude that any intermediate result of `integer_forward` can reach (the module's proof)."""
        weights = self.weight_int.cpu().long().abs().flatten(1).sum(1).tolist()
        biases = self.bias_int.cpu().long().abs().amax(0).tolist()
        # max over the outputs of A S + 2^14 B + 2^15, in unbounded integers.
        half = 2 ** (WEIGHT_BITS + 1)
        return max((ACTIVATION_LIMIT - 1) * w + 2**WEIGHT_BITS * b + half for w, b in zip(weights, biases, strict=True))

    def check_exact(self, name: str = "an integer layer") -> None:
        """Raise CheckpointError, which says `name`, if some sum could reach 2^53 and so lose exactness."""
        if (largest := self.largest_sum()) >= EXACT_LIMIT:
            raise CheckpointError(
                f"The weights of {name} are so large that a sum could reach 2^53 (up to 2^{math.log2(largest):.2f}) "
                "and lose exactness, so files would not decode everywhere; lower the learning rate and train again."
            )

    @torch.no_grad()
    def integer_forward(self, x: Tensor, level: Tensor) -> Tensor:
        """x (B, inputs, H, W) float64 holding integers with 8 fractional bits -> the same for the outputs, exactly.

        On the CPU, wherever the weights are, and channels_last in memory. Works in strips of rows, so that memory stays
        bounded; the integers are the same for any strip.
        """
        # Kernels merged for the phases of the upsampled output, and biases (levels, outputs) in the unit of the sums.
        batch, _, height, width = x.shape
        ratio, outputs = self.spec.upsample, self.spec.outputs
        phases, biases = self._float64.get([self.weight_int, self.bias_int], self._to_float64)
        bias = biases[level if len(biases) > 1 else torch.zeros_like(level)][:, None]
        # Strip by strip: windows times kernels, plus bias, activation and rounding; then phases side by side.
        windows = phases.windows(x.permute(0, 2, 3, 1))
        out = x.new_empty(batch, height, ratio, width, ratio, outputs)
        rows = max(1, STRIP_BYTES // phases.bytes_of(batch * width))
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            strip = self._finish(phases.sums(windows, top, bottom, width).add_(bias))
            strip = strip.view(ratio, ratio, batch, bottom - top, width, outputs)
            out[:, top:bottom] = strip.permute(2, 3, 0, 4, 1, 5)
        return out.view(batch, ratio * height, ratio * width, outputs).permute(0, 3, 1, 2)

    def _to_float64(self) -> tuple[Phases, Tensor]:
        """The merged kernels, and the biases (levels, outputs) in the unit of the sums."""
        knots = self.bias_int.cpu().double() * 2**WEIGHT_BITS
        levels = torch.arange(max(1, KNOT_SPACING * (len(knots) - 1)))
        return Phases.of(self.weight_int.cpu().double(), self.spec.upsample), self._level_bias(knots, levels)

    def _finish(self, total: Tensor) -> Tensor:
        """Sums with 22 fractional bits -> activation, rounded to 8 fractional bits and clamped, in place."""
        # a = clamp(floor(activation(sum) / 2^14 + 1/2)): exact, as the module's proof says.
        if self.spec.activation == "relu":
            total.clamp_(min=0)
        elif self.spec.activation == "leaky_relu":
            F.leaky_relu(total, LEAKY_SLOPE, inplace=True)
        return total.mul_(2.0**-WEIGHT_BITS).add_(0.5).floor_().clamp_(1 - ACTIVATION_LIMIT, ACTIVATION_LIMIT - 1)


class IntegerSynthesis(nn.Module):
    """The hyper-synthesis transform h_s: a stack of `IntegerConv`, conditioned on the rate level."""

    def __init__(self, layers: list[LayerSpec], levels: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(IntegerConv(spec, levels) for spec in layers)

    def convolutions(self) -> list[IntegerConv]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, IntegerConv)]

    def forward(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """Float path for training: z_hat (B, N, h, w) -> (B, outputs, s*h, s*w)."""
        for layer in self.layers:
            z_hat = layer(z_hat, level)
        return z_hat

    def integer_forward(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """Exact path: float64 integers with 8 fractional bits in and out; runs on the CPU, returns a CPU tensor.

        The hyper-synthesis is small and its result goes to the entropy coder on the CPU, and some devices have no
        float64.
        """
        z_hat = z_hat.cpu().double()
        with torch.autocast("cpu", enabled=False):
            for layer in IntegerSynthesis.convolutions(self):  # A subclass may have others, beside this chain.
                z_hat = layer.integer_forward(z_hat, level.cpu())
        return z_hat

    def freeze(self) -> None:
        """Derive every layer's integers and check that no sum can leave the exact range of float64."""
        for i, layer in enumerate(self.convolutions()):
            layer.freeze(f"hyper-synthesis layer {i}")
        self.check_exact()

    def thaw(self) -> None:
        """Check the loaded integers and set the float weights from them."""
        self.check_exact()
        for layer in self.convolutions():
            layer.thaw()

    def check_exact(self) -> None:
        """Raise CheckpointError if some sum of the integer path could reach 2^53 and so lose exactness."""
        for i, layer in enumerate(self.convolutions()):
            layer.check_exact(f"hyper-synthesis layer {i}")
