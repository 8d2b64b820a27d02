"""What the equal-budget study trains: every method at a small width, as options of train.py beside a preset.

A sender has at most 4 M parameters (g_a and the entropy model) and a receiver at most 8 M (all that decoding runs, the
entropy model and a g_a that sees x_side included). What only training runs, such as NDIC's auto-encoder of x_side,
counts for neither. Batch, crops, flips, schedule and moving average are the same for all (`COMMON`, `train_all.py`); so
is the range of lambda where D is the squared error.

A method whose paper trains one model a lambda enters as `<preset>_vr`: gain units give all rates from one training.
DSIN's and NDSC's quantisers have no gain to vary, so each of their rates is a model of its own, as in their papers.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_SENDER, MOST_RECEIVER = 4_000_000, 8_000_000
BATCH = 4
COMMON = (
    f"--train.batch-size {BATCH} --train.precision no --train.ema 0.99 --train.lr-floor 0.02 --train.warmup 20 "
    "--data.augment.height 128 --data.augment.width 256 --data.workers 0"
)
"""Options of every method; augmentation is crops and flips, as published."""
SMALL = (
    "--model.latent 272 --model.hyper 128 --model.hyper-width 192 --model.embedding 128 --model.analysis-blocks 1 1 2 "
    "--model.analysis-channels 64 144 208 --model.side-channels 48 96 160 --model.synthesis-channels 72 144 208 "
    "--model.unet-channels 72 128 192 --diffusion.start-fraction 0.75 --diffusion.denoise-fraction 0.25"
)
"""The architecture of the preset `small` but for 272 channels of y instead of 320, and its first stage of training."""
SAMPLED = "--model.dim 16 --diffusion.steps 20 --loss.perceptual effnet --loss.perceptual-weight 0.55"
"""Published: 64 channels; 200 steps of decoding, and 65 by x-prediction; 0.9 of LPIPS on VGG16, whose operations would
be several times those of all else. The distance on EfficientNet is about 1.6 times LPIPS's, hence its weight."""


@dataclass(frozen=True)
class Method:
    """A preset with options of train.py. `rates`: further options, one model each; a single "" is variable rate."""

    preset: str
    sender: int
    receiver: int
    """Numbers of parameters."""
    options: str = ""
    rates: tuple[str, ...] = ("",)

    def arguments(self, rate: int = 0) -> list[str]:
        """Of train.py, for the model of rate number `rate`."""
        return ["--preset", self.preset, *f"{COMMON} {self.options} {self.rates[rate]}".split()]

    @property
    def middle(self) -> int:
        """The rate at which the learning rate is chosen."""
        return len(self.rates) // 2


_LAMBDAS = tuple(f"--loss.lmbda {value}" for value in (3, 8, 20, 50))
METHODS = {
    "ours": Method("demo", 3_983_824, 6_721_429, SMALL),
    "ndic_bls17": Method("ndic_bls17_vr", 734_208, 1_691_235, "--model.channels 96"),
    "ndic_bmshj18": Method("ndic_bmshj18_vr", 1_826_784, 2_783_811, "--model.channels 96"),
    # Published: 192 channels, 256 values a token, 8 heads; one thread takes 7 s for a forward pass of one pair.
    "ndic_cam": Method("ndic_cam_vr", 329_728, 2_040_675, "--model.channels 64 --model.attention 64 --model.heads 4"),
    "ldmic": Method("ldmic_vr", 2_841_488, 5_113_811, "--model.channels 96"),
    "dsin": Method("dsin", 760_878, 1_547_919, "--model.channels 48", _LAMBDAS),
    "ndsc": Method(
        "ndsc_prior", 1_072_560, 1_761_971,
        rates=tuple(f"--model.halvings {halvings} --model.bits {bits}" for halvings in (3, 2) for bits in (4, 8)),
    ),
    "dicm": Method("dicm_paper_vr", 722_848, 4_046_953, SAMPLED),
    # Trained alike, `cdc_eps` is the same: the presets differ in steps and learning rate alone.
    "dicm_no_side": Method("dicm_no_side_vr", 722_848, 3_186_150, SAMPLED),
    "cdc_x": Method("cdc_x_vr", 722_848, 3_199_891, f"{SAMPLED} --model.finest-context 16"),
}  # fmt: skip
