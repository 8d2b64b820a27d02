"""Settings that only the published codecs have: architectures, and the diffusion of `cdc` and `dicm`.

`config.py` has all others, and the presets of these codecs with their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PaperModelConfig:
    """Architecture of the published codecs `cdc` and `dicm`, which have their published depths."""

    codec: Literal["cdc", "dicm"] = "dicm"
    fusion: Literal["add", "none"] = "add"
    """`add`: DICM. `none`: no side image, the only way for cdc."""
    dim: int = 64
    """Channels of the finest level, of which all other widths are multiples."""
    finest_context: int = 3
    """Channels of the context at full resolution (published: 3, and 64 for x-prediction)."""
    variable_rate: bool = False
    """Whether gain units give all rates, which no paper has; otherwise one model a beta."""


@dataclass(frozen=True)
class NdicModelConfig:
    """Architecture of the published codecs on Ballé's transforms (`modules/published/`)."""

    codec: Literal["ndic_bls17", "ndic_bmshj18", "ldmic"] = "ndic_bls17"
    fusion: Literal["published"] = "published"
    variable_rate: bool = False
    """Whether gain units give all rates, which no paper has; otherwise one model a lambda."""
    channels: int = 192
    """Of every layer and latent."""


@dataclass(frozen=True)
class CamModelConfig(NdicModelConfig):
    """Architecture of the published codec `ndic_cam`, whose weights depend on the size of images."""

    codec: Literal["ndic_cam"] = "ndic_cam"  # type: ignore[assignment]
    height: int = 128
    width: int = 256
    """Of all images in pixels, multiples of 64."""
    attention: int = 256
    """Width of a token, and of a head."""
    heads: int = 8


@dataclass(frozen=True)
class NdscModelConfig:
    """Architecture of the published codec `ndsc`."""

    codec: Literal["ndsc"] = "ndsc"
    fusion: Literal["published"] = "published"
    bits: int = 8
    """Of an index into the codebook, of which each position of y is one: the rate is bits / 4^halvings bpp."""
    prior: bool = False
    """Whether indices are predicted from earlier ones, which lowers the rate."""
    halvings: int = 3
    hidden: int = 32
    """Channels at full resolution; each halving doubles them."""
    residual_layers: int = 3
    code: int = 64
    """Channels of y."""

    @property
    def bpp(self) -> float:
        """Bits per pixel of plain indices."""
        return float(self.bits / 4**self.halvings)


@dataclass(frozen=True)
class DsinModelConfig:
    """Architecture of the published codec `dsin`."""

    codec: Literal["dsin"] = "dsin"
    fusion: Literal["published"] = "published"
    channels: int = 128
    """Of the residual blocks; an even number."""
    code: int = 32
    """Channels of y that carry symbols."""
    centres: int = 6
    """Values that a symbol can have."""
    refine_channels: int = 32


@dataclass(frozen=True)
class PaperDiffusionConfig:
    """The noise process and the sampling of `cdc` and `dicm`."""

    prediction: Literal["x0", "epsilon", "v"] = "epsilon"
    schedule: Literal["linear", "cosine_offset"] = "linear"
    """Tables of betas, linear or Nichol and Dhariwal's, with its offset."""
    timesteps: int = 20_000
    """Number of discrete noise levels."""
    max_weight: float = 100.0
    """Upper bound of the weight (alpha / sigma)^2 of an x0 error."""
    steps: int = 200
    gamma: float = 0.8
    """Decoding steps, and standard deviation of the noise they start from, unless the receiver chooses."""


@dataclass(frozen=True)
class NoDiffusionConfig:
    """Of codecs without diffusion."""
