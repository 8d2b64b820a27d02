"""Every setting of an experiment, typed. Edit a preset or add one here; that is how experiments are run.

`accelerate launch train.py` trains DEFAULT; `--preset NAME` another preset; `--field.path VALUE` sets any field, for
example `--train.batch-size 32 --data.dataset cityscapes`. `--dry-run` prints the result. Each family of codecs has
sections of its own (SECTIONS; `modules/published/settings.py` has those that only published codecs read), so a codec
cannot be given what it does not read; `utils/configrules.py` holds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from modules.published.settings import (
    CamModelConfig,
    DsinModelConfig,
    NdicModelConfig,
    NdscModelConfig,
    NoDiffusionConfig,
    PaperDiffusionConfig,
    PaperModelConfig,
)

Dataset = Literal["kitti", "cityscapes", "folder", "warped", "builtin"]
Source = Literal[Dataset, "photos"]


@dataclass(frozen=True)
class AugmentConfig:
    """The training crop, and the random changes to a pair (`data/transforms.py`); by default crop and flip only."""

    height: int = 128
    """Of the crop in pixels, like `width` a multiple of 64."""
    width: int = 256
    shapes: tuple[tuple[int, int], ...] = ()
    """(height, width) of several crops instead: each optimizer step draws one of them, all alike."""
    flip: float = 0.5
    """Probability of a flip, which swaps the views."""
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    """Half-width of the uniform range around 1 of a factor common to both views."""
    hue: float = 0.0
    gray: float = 0.0
    neon: float = 0.0
    permute: float = 0.0
    """Probability, in both views alike, of turned hues, no colour, 1.5 to 4 times stronger ones, permuted channels."""
    flat: float = 0.0
    text: float = 0.0
    """Probability that nearly one colour fills the crop or a large part of it, and of a patch with text."""
    exposure: float = 0.0
    white_balance: float = 0.0
    """Half-width of the uniform range around 1 of a gain of each view alone, and of one of each of its channels."""
    defects: float = 0.0
    """Probability of each of the four defects below, drawn for each view alone."""
    noise: float = 0.0
    blur: float = 0.0
    """Largest standard deviation of Gaussian noise, in grey levels, and of Gaussian blur, in pixels."""
    jpeg: int = 0
    """Lowest JPEG quality of the side image; 0: no JPEG."""
    vertical: float = 0.0
    """Largest distance in rows by which the side image is too high or too low."""

    def crops(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of every shape that a training crop may have."""
        return self.shapes or ((self.height, self.width),)


@dataclass(frozen=True)
class MixConfig:
    """A named set of pictures, as part of the training data or to validate on.

    On the command line NAME=SOURCE:ROOT,weight=0.3,scale-min=0.33,scale-max=1,role=pictures; NAME=SOURCE is enough.
    """

    name: str
    source: Source
    """`data/sources.py`; `photos`: single pictures."""
    root: str = ""
    """A folder or zip, below `data.root`; empty: the one of the source itself, such as `data.kitti_root`."""
    weight: float = 1.0
    scale_min: float = 1.0
    scale_max: float = 1.0
    """Range of the log-uniform factor by which training resizes it before the crop; 1: as stored."""
    role: Literal["pairs", "pictures"] = "pairs"
    """`pictures`: its views are single pictures, without a side image."""


@dataclass(frozen=True)
class DataConfig:
    """Where pairs come from. A missing data set stops with a sentence before training starts."""

    dataset: Dataset = "kitti"
    """The data set of evaluation, and of training and validation where `mix` and `val` are empty."""
    mix: tuple[MixConfig, ...] = ()
    """What trains, in shares proportional to the weights."""
    val: tuple[MixConfig, ...] = ()
    """What training validates on; the best checkpoint has the least mean loss of these sets."""
    root: str = "."
    """The folder below which the roots of `mix` and `val` lie, but for absolute ones."""
    kitti_root: str = "datasets/kitti"
    cityscapes_root: str = "datasets/cityscapes"
    folder_root: str = "datasets/folder"
    protocol: Literal["drive_disjoint", "ndic"] = "drive_disjoint"
    """KITTI's splits: by recording, or the published lists, in which val and test share every scene."""
    augment: AugmentConfig = AugmentConfig()
    mismatched: float = 0.0
    """Share of training pairs that get the side image of another pair, from which to learn distrust."""
    workers: int = 2
    """Data-loader processes for each training process; 0 loads in the training process."""
    cache: int = 512
    """MiB of decoded pictures that each of these processes keeps."""
    val_limit: int = 16
    """Pairs of each set that the validation inside training uses; 0: all."""

    def training(self) -> tuple[MixConfig, ...]:
        """What trains."""
        return self.mix or (MixConfig(self.dataset, self.dataset),)

    def validation(self) -> tuple[MixConfig, ...]:
        """What training validates on."""
        return self.val or (MixConfig(self.dataset, self.dataset),)

    def root_of(self, part: MixConfig) -> str | None:
        """The root of a set, None for one that needs none."""
        return str(Path(self.root, part.root)) if part.root else getattr(self, f"{part.source}_root", None)


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of the codec `diffusion`. Tuples run from fine to coarse: 1/4, 1/8, 1/16 of the image."""

    codec: Literal["diffusion"] = "diffusion"
    variable_rate: bool = True
    """256 rate levels by gain units; otherwise one model a lambda."""
    fusion: Literal["correlation", "add", "row_attention", "both", "aligned", "pixel_aligned", "none"] = "pixel_aligned"
    """`correlation` finds each point of x in x_side, at most a quarter of the width away, and brings its features and
    pixels there; `none` has no side image; the others served earlier models (`modules/fusion.py`)."""
    side_dropout: float = 0.1
    """Share of training samples with the learned null input for a side image; 0: the model cannot do without one."""
    latent: int = 192
    hyper: int = 96
    """Channels of y and of z."""
    hyper_width: int = 0
    """Features of h_s before its last layer, which the exact integers make dear; 0: as many as y has channels."""
    shortcut: bool = False
    """Whether y and the features at 1/8 are also connected directly, in g_a and in g_s, for high rates."""
    analysis_channels: tuple[int, ...] = (64, 128, 192)
    analysis_blocks: tuple[int, ...] = (1, 1, 2)
    side_channels: tuple[int, ...] = (48, 96, 160)
    side_blocks: tuple[int, ...] = (1, 1, 1)
    synthesis_channels: tuple[int, ...] = (64, 128, 192)
    synthesis_blocks: tuple[int, ...] = (1, 1, 1)
    attend: tuple[bool, ...] = (False, True, False)
    """Scales at which the earlier kinds of fusion but `add` attend; below the finest of them, aligned ones warp."""
    unet_channels: tuple[int, ...] = (72, 128, 192)
    unet_blocks: tuple[int, ...] = (1, 1, 1)
    embedding: int = 128


@dataclass(frozen=True)
class DiffusionConfig:
    """How the denoiser of the codec `diffusion` is trained, and how decoding starts; it predicts x0."""

    start_fraction: float = 0.5
    """Share of samples with gamma 0 when the start of decoding (t = 1) is trained; the others draw it from [0, 1]."""
    denoise_fraction: float = 1.0
    """Share of samples that also have the second denoising task, at a random noise level."""
    sampled_steps: int = 0
    """The second denoising task. 0: the original with noise. N: a later step of decoding in 2 to N steps, on what the
    network itself made so far, which is what a sampler meets (arXiv 2405.14867, section 4.5)."""
    perceptual_floor: float = 0.0
    """The weight of the perceptual term is floor + (1 - floor) x gamma, and of the critic in it gamma."""
    steps: int = 1
    gamma: float = 0.0
    """Decoding steps, and standard deviation of the noise they start from, unless the receiver chooses."""

    @property
    def denoises(self) -> bool:
        """Whether the denoiser trains: some samples have noise."""
        return self.start_fraction < 1 or (self.denoise_fraction > 0 and not self.sampled_steps)


@dataclass(frozen=True)
class BaseLossConfig:
    """What the loss of every codec reads.

    bpp + lambda x (distortion_weight x D + coarse_weight x D' + ms_ssim_weight x (1 - MS-SSIM)
    + perceptual_weight x P). D is `mse` (times 255^2, for images in [0, 1]), `l2` (the plain mean square) or `l1`, in
    the units of the codec's prediction: `diffusion` predicts in images of [0, 1], cdc and dicm in images of [-1, 1] or
    unit noise.
    """

    lambda_on: ClassVar[Literal["distortion", "rate"]] = "distortion"
    """What lambda multiplies."""
    lmbda: float = 0.001
    """Fixed rate: the only lambda."""
    lambda_min: float = 0.0001
    lambda_max: float = 0.026
    """Variable rate: the least and the largest lambda, of rate level 0 and 255 or 255 and 0, geometric in between."""
    rates: tuple[float, ...] = (0.0, 1.0)
    """Variable rate: the lowest and the highest rate that training draws; two equal ones train that rate alone."""
    distortion: Literal["mse", "l2", "l1"] = "mse"
    distortion_weight: float = 1.0
    coarse_weight: float = 0.0
    """Weight of D between the means of 4x4 blocks, beside D between values: a coarse error is seen best."""
    ms_ssim_weight: float = 0.0
    """Weight of 1 - MS-SSIM, beside D; in published models 1250 times that of `mse` (arXiv 2011.03029)."""
    perceptual: Literal["lpips_vgg", "effnet", "none"] = "none"
    perceptual_weight: float = 0.0
    """For codecs with a trained gamma it counts more the larger gamma is (`diffusion.perceptual_floor`)."""
    adversarial_weight: float = 0.0
    """Weight of a critic's mean logit beside `effnet`, on whose features it works (`modules/critic.py`); 0: none."""

    @property
    def has_perceptual(self) -> bool:
        """Whether the loss has a perceptual term."""
        return self.perceptual != "none" and self.perceptual_weight > 0


@dataclass(frozen=True)
class LossConfig(BaseLossConfig):
    """The loss of the codec `diffusion` and of those without diffusion."""

    disparity_weight: float = 0.0
    """Weight of the error of fusion `correlation` in finding points of known disparity, in pixels (Huber)."""


@dataclass(frozen=True)
class PaperLossConfig(BaseLossConfig):
    """The loss of `cdc` and `dicm`: lambda multiplies the bits, so that it is their papers' beta."""

    lambda_on: ClassVar[Literal["distortion", "rate"]] = "rate"
    lambda_max: float = 0.02


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation. Everything is counted in optimizer steps; nothing depends on the number of processes."""

    steps: int = 200_000
    batch_size: int = 16
    """Pairs an optimizer step sees, over all processes and accumulation together."""
    accumulation: int = 1
    """Forward-backward passes that share one optimizer step."""
    lr: float = 3e-4
    """Learning rate of all weights but those with one of their own (`utils/training/optimisation.py`)."""
    warmup: int = 500
    decay: int = 50_000
    """The learning rate falls linearly over this many last steps to lr x lr_floor."""
    lr_floor: float = 0.02
    clip: float = 1.0
    """Largest gradient norm."""
    ema: float = 0.999
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Of autocast; `no` is float32, `auto` bf16 where that is faster and else `no`."""
    compile: bool = False
    parts: Literal["all", "receiver", "denoiser"] = "all"
    """The other parts keep the weights that --init gives. `receiver`: the sender stays, and with it every file.
    `denoiser`: of the receiver the denoiser alone, so the image at gamma 0 stays as well."""
    seed: int = 0
    log_every: int = 50
    val_every: int = 2000
    save_every: int = 1000
    keep: int = 2
    """Checkpoints kept beside the best; that is the last where the loss is more than rate + lambda x MSE."""


@dataclass(frozen=True)
class Config:
    """One experiment. `model`, `diffusion` and `loss` are those of one family of codecs."""

    name: str = "base"
    """The run folder is runs/<name>."""
    data: DataConfig = DataConfig()
    model: ModelConfig | PaperModelConfig | NdicModelConfig | CamModelConfig | NdscModelConfig | DsinModelConfig = (
        ModelConfig()
    )
    diffusion: DiffusionConfig | PaperDiffusionConfig | NoDiffusionConfig = DiffusionConfig()
    loss: LossConfig | PaperLossConfig = LossConfig()
    train: TrainConfig = TrainConfig()


_PAPER: dict[str, type] = {"model": PaperModelConfig, "diffusion": PaperDiffusionConfig, "loss": PaperLossConfig}
_OURS: dict[str, type] = {"model": ModelConfig, "diffusion": DiffusionConfig, "loss": LossConfig}
_PEER: dict[str, type] = {"model": NdicModelConfig, "diffusion": NoDiffusionConfig, "loss": LossConfig}
SECTIONS = {
    "diffusion": _OURS,
    "cdc": _PAPER,
    "dicm": _PAPER,
    "ndic_bls17": _PEER,
    "ndic_bmshj18": _PEER,
    "ndic_cam": _PEER | {"model": CamModelConfig},
    "ldmic": _PEER,
    "dsin": _PEER | {"model": DsinModelConfig},
    "ndsc": _PEER | {"model": NdscModelConfig},
}
"""model.codec -> the types of its sections."""


# ---------------------------------------------------------------- what presets share
# Stage 1 trains the files and the mean image, at gamma 0; the denoiser rests.
_STAGE_1 = DiffusionConfig(start_fraction=1.0, denoise_fraction=0.0)
# Stage 2 has two halves, the same for all sizes; docs/decisions.md says what was compared. Mean: the image of gamma 0,
# which the context makes, gets better to look at. MS-SSIM, errors of 4x4 means and a perceptual distance take most of
# the weight of the squared error. The denoiser rests, as in stage 1.
_MEAN = DiffusionConfig(start_fraction=1.0, denoise_fraction=0.0, perceptual_floor=0.25)
_MEAN_LOSS = LossConfig(
    lambda_max=0.1, distortion_weight=0.2, coarse_weight=0.4, ms_ssim_weight=1500.0, perceptual="effnet",
    perceptual_weight=1000.0,
)  # fmt: skip
# One step: the denoiser alone learns to make that image realistic in one step, and better in two to four, with
# perceptual distance and a critic, both the more the larger gamma is. Files, and images at gamma 0, stay.
_ONE_STEP = DiffusionConfig(start_fraction=0.0, sampled_steps=4, perceptual_floor=0.25, gamma=0.25)
_ONE_STEP_LOSS = LossConfig(
    lambda_max=0.1, distortion_weight=0.5, coarse_weight=1.5, ms_ssim_weight=2000.0, perceptual="effnet",
    perceptual_weight=4000.0, adversarial_weight=0.08,
)  # fmt: skip
_SMALL_DATA = DataConfig(
    dataset="folder", mismatched=0.05, workers=1, cache=1024, val_limit=4,
    mix=(
        MixConfig("warped", "warped", "photos", 0.35),
        MixConfig("stereo", "folder", "stereo", 0.15, scale_min=1 / 3),
        MixConfig("native", "folder", "kitti/native", 0.2, scale_min=1 / 3),
        MixConfig("protocol", "folder", "kitti/protocol", 0.12),
        MixConfig("more", "folder", "kitti/more", 0.08, scale_min=2 / 3),
        MixConfig("photos", "photos", "photos", 0.1, scale_min=1 / 3, role="pictures"),
    ),
    val=(
        MixConfig("kitti", "folder", "kitti/protocol"),
        MixConfig("stereo", "folder", "stereo"),
        MixConfig("photos", "photos", "photos", role="pictures"),
    ),
    augment=AugmentConfig(
        shapes=((128, 256), (128, 256), (64, 512)), brightness=0.3, contrast=0.2, saturation=0.3, hue=0.05, gray=0.03,
        neon=0.03, permute=0.05, flat=0.04, text=0.02, exposure=0.05, white_balance=0.03, defects=0.1, noise=4.0,
        blur=0.8, jpeg=50, vertical=1.0,
    ),
)  # fmt: skip
# Stage 2 has crops of one shape, which is high enough for MS-SSIM.
_SMALL_STAGE_2_DATA = replace(_SMALL_DATA, augment=replace(_SMALL_DATA.augment, shapes=()))
_SMALL_KITTI_DATA = replace(
    _SMALL_DATA, val=(MixConfig("kitti", "folder", "kitti/protocol"),), val_limit=0,
    mix=(
        MixConfig("protocol", "folder", "kitti/protocol", 0.5),
        MixConfig("native", "folder", "kitti/native", 0.3, scale_min=1 / 3),
        MixConfig("more", "folder", "kitti/more", 0.1, scale_min=2 / 3),
        MixConfig("warped", "warped", "photos", 0.1),
    ),
)  # fmt: skip
_SMALL_MODEL = ModelConfig(fusion="correlation", shortcut=True, latent=320, hyper_width=192)
_SMALL_LOSS = LossConfig(lambda_max=0.1, disparity_weight=0.05)
_SMALL_MEAN_LOSS = replace(_MEAN_LOSS, disparity_weight=0.05)
_SMALL_TRAIN = TrainConfig(
    steps=24_000, batch_size=8, lr=7e-4, warmup=200, decay=20_000, val_every=1000, save_every=250
)
_SMALL_KITTI_TRAIN = replace(_SMALL_TRAIN, steps=2_000, decay=1_900, lr=3e-4)
_MEAN_TRAIN = TrainConfig(steps=800, batch_size=8, lr=3e-4, warmup=20, decay=750, val_every=1000, save_every=250)
_ONE_STEP_TRAIN = TrainConfig(
    steps=600, batch_size=8, lr=5e-4, warmup=20, decay=550, val_every=1000, save_every=250, parts="denoiser"
)
# Without x_side, for what it brings: same data, steps and code; a decoder of the same size, since the channels that
# `small` spends on e_side and fusion widen g_s and the U-Net (`--dry-run` counts).
_NO_SIDE_DATA, _NO_SIDE_STAGE_2_DATA = (replace(data, mismatched=0.0) for data in (_SMALL_DATA, _SMALL_STAGE_2_DATA))
_NO_SIDE_LOSS = LossConfig(lambda_max=0.1)
_NO_SIDE_MODEL = replace(_SMALL_MODEL, fusion="none", synthesis_channels=(80, 168, 232), unet_channels=(80, 144, 208))

_BASE_DATA = DataConfig(dataset="kitti", augment=AugmentConfig(brightness=0.1, exposure=0.02), workers=8)
_BASE_MODEL = ModelConfig(
    fusion="correlation", shortcut=True, latent=320, hyper=160, embedding=256, analysis_channels=(128, 256, 384),
    analysis_blocks=(2, 3, 3), side_channels=(96, 192, 320), side_blocks=(2, 2, 2), synthesis_channels=(128, 256, 384),
    synthesis_blocks=(2, 2, 2), unet_channels=(160, 288, 448), unet_blocks=(2, 2, 3),
)  # fmt: skip
_BASE_LOSS = LossConfig(lambda_max=0.1)
_BASE_TRAIN = TrainConfig(steps=400_000, batch_size=32, lr=2e-4, warmup=2_000, decay=100_000, ema=0.9995)
_BASE_MEAN_TRAIN = TrainConfig(steps=20_000, batch_size=32, lr=1e-4, warmup=20, decay=19_950, ema=0.9995)
_BASE_ONE_STEP_TRAIN = replace(_BASE_MEAN_TRAIN, steps=30_000, decay=29_950, parts="denoiser")

_PAPER_DATA = DataConfig(dataset="kitti", protocol="ndic", workers=4)
_ONE_VIEW = PaperModelConfig("cdc", fusion="none")
_EPSILON = PaperDiffusionConfig()  # Its defaults: epsilon, linear in 20,000 levels, 200 steps, gamma 0.8.
_CDC_X = PaperDiffusionConfig("x0", "cosine_offset", timesteps=8193, steps=65, max_weight=5.0)
_PAPER_LOSS = PaperLossConfig(
    lmbda=0.0025, distortion="l1", distortion_weight=0.1, perceptual="lpips_vgg", perceptual_weight=0.9
)
_CDC_X_LOSS = replace(_PAPER_LOSS, lmbda=0.0032, distortion="l2")
_PAPER_TRAIN = TrainConfig(  # DICM's.
    steps=400_000, batch_size=4, lr=3e-5, warmup=0, decay=85_000, lr_floor=0.5, ema=0.0, precision="no",
    val_every=20_000, save_every=5_000,
)  # fmt: skip
_CDC_EPS_TRAIN = replace(_PAPER_TRAIN, steps=1_000_000, lr=4e-5, decay=900_000)
_CDC_X_TRAIN = replace(_CDC_EPS_TRAIN, lr=5e-5, lr_floor=0.2, ema=0.9999)

# ---------------------------------------------------------------- presets
# `accelerate launch train.py --preset NAME`, with the options beside each. What has no result is not measured yet.
_PRESETS = (
    # Tiny, on data that needs no download: minutes on a CPU show that every part works; expect no quality.
    Config(
        name="demo",
        data=DataConfig(
            dataset="builtin", mix=(MixConfig("builtin", "builtin"), MixConfig("warped", "warped")),
            augment=AugmentConfig(height=64, width=128), workers=0, val_limit=2,
        ),
        model=ModelConfig(
            fusion="correlation", shortcut=True, latent=64, hyper=32, embedding=64,
            analysis_channels=(48, 48, 64), analysis_blocks=(1, 1, 1),
            side_channels=(24, 32, 48), synthesis_channels=(48, 48, 64), unet_channels=(32, 48, 64),
        ),
        train=TrainConfig(
            steps=600, batch_size=4, lr=1e-3, warmup=20, decay=200, ema=0.99, log_every=20, val_every=200, save_every=50
        ),
    ),
    # At most 12 M parameters, encoder and decoder together; one file for every rate. All with --data.root DIR.
    Config("small", _SMALL_DATA, _SMALL_MODEL, _STAGE_1, _SMALL_LOSS, _SMALL_TRAIN),
    # --init runs/small: adapted to KITTI.
    Config("small_kitti", _SMALL_KITTI_DATA, _SMALL_MODEL, _STAGE_1, _SMALL_LOSS, _SMALL_KITTI_TRAIN),
    # --init runs/small, then --init runs/small_mean: stage 2.
    Config("small_mean", _SMALL_STAGE_2_DATA, _SMALL_MODEL, _MEAN, _SMALL_MEAN_LOSS, _MEAN_TRAIN),
    Config("small_one_step", _SMALL_STAGE_2_DATA, _SMALL_MODEL, _ONE_STEP, _ONE_STEP_LOSS, _ONE_STEP_TRAIN),
    # Without x_side; stage 2 --init runs/small_no_side, then --init runs/small_no_side_mean.
    Config("small_no_side", _NO_SIDE_DATA, _NO_SIDE_MODEL, _STAGE_1, _NO_SIDE_LOSS, _SMALL_TRAIN),
    Config("small_no_side_mean", _NO_SIDE_STAGE_2_DATA, _NO_SIDE_MODEL, _MEAN, _MEAN_LOSS, _MEAN_TRAIN),
    Config("small_no_side_one_step", _NO_SIDE_STAGE_2_DATA, _NO_SIDE_MODEL, _ONE_STEP, _ONE_STEP_LOSS, _ONE_STEP_TRAIN),
    # At most 60 M parameters, for GPUs. Stage 2 --init runs/base, then --init runs/base_mean.
    Config("base", _BASE_DATA, _BASE_MODEL, DiffusionConfig(), _BASE_LOSS, _BASE_TRAIN),
    Config("base_mean", _BASE_DATA, _BASE_MODEL, _MEAN, _MEAN_LOSS, _BASE_MEAN_TRAIN),
    Config("base_one_step", _BASE_DATA, _BASE_MODEL, _ONE_STEP, _ONE_STEP_LOSS, _BASE_ONE_STEP_TRAIN),
    # The published codecs, without the mistakes of their released code; `modules/published/` says what to expect. One
    # model a beta (--loss.lmbda BETA); published is batch 4 a GPU: --train.batch-size 4 x GPUs. They need the weights
    # of LPIPS-VGG (--loss.perceptual none --loss.perceptual-weight 0 trains without).
    Config("dicm_paper", _PAPER_DATA, PaperModelConfig("dicm"), _EPSILON, _PAPER_LOSS, _PAPER_TRAIN),
    # Without x_side: one codec, one view, all else equal.
    Config("dicm_no_side", _PAPER_DATA, replace(_ONE_VIEW, codec="dicm"), _EPSILON, _PAPER_LOSS, _PAPER_TRAIN),
    # CDC on x alone, by epsilon-prediction; beta is DICM's. By x-prediction a handful of steps decode.
    Config("cdc_eps", _PAPER_DATA, _ONE_VIEW, _EPSILON, _PAPER_LOSS, _CDC_EPS_TRAIN),
    Config("cdc_x", _PAPER_DATA, replace(_ONE_VIEW, finest_context=64), _CDC_X, _CDC_X_LOSS, _CDC_X_TRAIN),
)  # fmt: skip
# ---------------------------------------------------------------- published codecs without diffusion
# `accelerate launch train.py --preset NAME`; each one's file in `modules/published/` says what is published and what
# differs. One model a lambda (--loss.lmbda), but for the presets NAME_vr, whose gain units no paper has. Published
# curves are those of KITTI Stereo at 128x256. Where steps are not published, those here are ours.

_NO_DIFFUSION = NoDiffusionConfig()
_PEER_TRAIN = replace(_PAPER_TRAIN, batch_size=1, lr=1e-4, decay=100_000, lr_floor=0.01)
_PEERS: tuple[Config, ...] = (
    # 16.3 M parameters, of which coding needs 9.6 M. Published lambdas 2e-5 to 5.6e-3; Adam, batch 1, until the
    # validation loss rests. Published PSNR: 0.109 bpp 23.80, 0.217 bpp 25.77.
    Config("ndic_bls17", _PAPER_DATA, NdicModelConfig(), _NO_DIFFUSION, LossConfig(), _PEER_TRAIN),
    # 25.0 M parameters. Published lambdas 2e-4 to 4.8e-3. Published PSNR: 0.089 bpp 22.70, 0.227 bpp 25.80.
    Config("ndic_bmshj18", _PAPER_DATA, NdicModelConfig("ndic_bmshj18"), _NO_DIFFUSION, LossConfig(), _PEER_TRAIN),
    # 25.0 M parameters, at 128x256 alone. Published for MS-SSIM only: --loss.ms-ssim-weight 65025
    # --loss.distortion-weight 0 with lambdas from 3e-5 to 6.2e-4. Published MS-SSIM: 0.127 bpp 14.31 dB.
    Config("ndic_cam", _PAPER_DATA, CamModelConfig(), _NO_DIFFUSION, LossConfig(), _PEER_TRAIN),
    # LDMIC-fast for one sent view. 20.3 M parameters. Published: lambda 2048 on images in [0, 1], here 0.0315; Adam
    # 1e-4 halved every 100 of 400 epochs, batch 16, crops of 256x256 of other data sets. No comparable curve.
    Config(
        "ldmic", _PAPER_DATA, NdicModelConfig("ldmic"), _NO_DIFFUSION, LossConfig(lmbda=0.0315),
        replace(_PEER_TRAIN, steps=200_000, batch_size=16),
    ),
    # 10.1 M parameters. Published: a target rate in place of lambda, and the auto-encoder alone first; 300 k steps.
    # Published PSNR: 0.121 bpp 20.94, 0.253 bpp 22.33, 0.465 bpp 23.86.
    Config(
        "dsin", _PAPER_DATA, DsinModelConfig(), _NO_DIFFUSION, LossConfig(lmbda=10.0, distortion="l1"),
        replace(_PEER_TRAIN, steps=300_000),
    ),
    # The "8x" model, 2.6 M parameters; the rate is --model.bits / 64 bpp, whatever lambda. Published: batch 32, Adam
    # 5e-4 (2e-4 from 6 bits on), about 50 k steps. Published PSNR, with a prior: 0.098 bpp 24.69, 0.128 bpp 25.64.
    Config(
        "ndsc", _PAPER_DATA, NdscModelConfig(), _NO_DIFFUSION, LossConfig(lmbda=0.01),
        replace(_PAPER_TRAIN, steps=50_000, batch_size=32, lr=2e-4, decay=10_000, lr_floor=0.1, val_every=5_000),
    ),
)  # fmt: skip
_PEERS += (replace(_PEERS[-1], name="ndsc_prior", model=NdscModelConfig(prior=True)),)
_PEERS += tuple(
    replace(
        preset,
        name=f"{preset.name}_vr",
        model=replace(preset.model, variable_rate=True),
        loss=replace(preset.loss, lmbda=BaseLossConfig.lmbda),
    )
    for preset in (*_PRESETS, *_PEERS)
    if isinstance(preset.model, PaperModelConfig | NdicModelConfig)
)

PRESETS = {preset.name: preset for preset in (*_PRESETS, *_PEERS)}
DEFAULT = "demo"
"""What `train.py` trains without `--preset`: on any machine, without data."""
