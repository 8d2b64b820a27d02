"""Which settings can be together: the one place that validates a configuration. It builds no network.

`validate` refuses what would fail later and what nothing would read. That a codec of one family has no settings of
another follows from the types in `config.py`; what one field makes of another is in the table READ_IF.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

from config import SECTIONS, CamModelConfig, Config, NoDiffusionConfig, PaperDiffusionConfig
from data.pair import MAX_SIDE, MIN_SIDE
from utils.errors import UNTRAINED_DENOISER, ConfigError

SCALES = 3
"""Entries of the model's tuples, from 1/4 to 1/16 of the image."""
STRIDE = 64
"""What a training crop is a multiple of: the hyperprior's stride."""
MS_SSIM_MIN_EDGE = 97
"""The smallest edge, in pixels, of an image that has an MS-SSIM."""
SET_NAME = re.compile(r"[\w-]+")
ALIGNED = ("aligned", "pixel_aligned")

INTERVALS = {
    "[1, inf)": "train.steps train.batch_size train.accumulation train.log_every train.val_every train.save_every "
    "train.keep",
    "[1, 8192]": "model.latent model.hyper model.analysis_channels model.side_channels model.synthesis_channels "
    "model.unet_channels model.embedding model.dim model.finest_context model.channels model.hidden model.code "
    "model.refine_channels model.attention model.heads model.height model.width",
    "[0, 8192]": "model.hyper_width",
    "[1, 64]": "model.analysis_blocks model.side_blocks model.synthesis_blocks model.unet_blocks model.residual_layers",
    "[1, 20000]": "diffusion.steps",
    "[2, 1000000]": "diffusion.timesteps",
    "[0, inf)": "data.workers data.cache data.val_limit data.augment.noise data.augment.blur train.warmup train.decay "
    "loss.distortion_weight loss.coarse_weight loss.ms_ssim_weight loss.perceptual_weight "
    "loss.adversarial_weight loss.disparity_weight diffusion.sampled_steps",
    "(0, inf)": "train.lr train.clip loss.lmbda loss.lambda_min loss.lambda_max diffusion.max_weight",
    "[0, 1]": "data.mismatched data.augment.flip data.augment.hue data.augment.gray data.augment.neon "
    "data.augment.permute data.augment.flat data.augment.text data.augment.defects data.augment.vertical "
    "train.lr_floor loss.rates "
    "diffusion.start_fraction diffusion.denoise_fraction diffusion.perceptual_floor diffusion.gamma",
    "[0, 1)": "data.augment.brightness data.augment.contrast data.augment.saturation data.augment.exposure "
    "data.augment.white_balance "
    "train.ema model.side_dropout",
    f"[{MIN_SIDE}, {MAX_SIDE}]": "data.augment.height data.augment.width data.augment.shapes",
    "[0, 100]": "data.augment.jpeg",
    "[1, 16]": "model.bits",
    "[1, 4]": "model.halvings",
    "[2, 256]": "model.centres",
    "[0, 4294967295]": "train.seed",
}
"""Where the value of each number lies, and of each entry of a tuple.

The upper bounds of models and of decoding, far beyond the largest preset's, are for checkpoints from elsewhere: a
network that is merely built would turn their claims into memory and time.
"""


@dataclasses.dataclass(frozen=True)
class Rule:
    """`fields` count only where `read` holds of the configuration; `otherwise` says when they do not."""

    fields: str
    read: Callable[[Any], bool]
    otherwise: str


def _sources(config: Config) -> set[str]:
    """Every source that is read from its own root, by training, validation or evaluation."""
    data = config.data
    return {data.dataset} | {part.source for part in (*data.mix, *data.val) if not part.root}


_RATES = (
    Rule(
        "loss.lambda_min loss.lambda_max loss.rates",
        lambda c: getattr(c.model, "variable_rate", False),
        "with model.variable_rate False (its only lambda is loss.lmbda)",
    ),
    Rule(
        "loss.lmbda",
        lambda c: not getattr(c.model, "variable_rate", False),
        "with model.variable_rate True (loss.lambda_min and lambda_max are its lambdas)",
    ),
)
_PAPER = (
    *_RATES,
    Rule("diffusion.max_weight", lambda c: c.diffusion.prediction != "epsilon", "with prediction epsilon"),
)
_PEER = (*_RATES, Rule("loss.disparity_weight", lambda c: False, "since it matches nothing"))

READ_IF: dict[str, tuple[Rule, ...]] = {
    "": (  # Every codec.
        Rule("data.kitti_root data.protocol", lambda c: "kitti" in _sources(c), "since kitti is no source"),
        Rule("data.cityscapes_root", lambda c: "cityscapes" in _sources(c), "since cityscapes is no source"),
        Rule("data.folder_root", lambda c: "folder" in _sources(c), "since folder is no source"),
        Rule("data.root", lambda c: any(part.root for part in (*c.data.mix, *c.data.val)), "without a set below it"),
        Rule("data.augment.height data.augment.width", lambda c: not c.data.augment.shapes, "with data.augment.shapes"),
        Rule(
            "data.augment.noise data.augment.blur data.augment.jpeg data.augment.vertical",
            lambda c: c.data.augment.defects > 0,
            "with data.augment.defects 0",
        ),
        Rule("data.mismatched", lambda c: c.model.fusion != "none", "with model.fusion none"),
        Rule("loss.perceptual_weight", lambda c: c.loss.perceptual != "none", "with loss.perceptual none"),
        Rule("train.lr_floor", lambda c: c.train.decay > 0, "with train.decay 0"),
    ),
    "diffusion": (
        *_RATES,
        Rule(
            "model.side_channels model.side_blocks model.side_dropout",
            lambda c: c.model.fusion != "none",
            "with model.fusion none",
        ),
        Rule(
            "model.attend",
            lambda c: c.model.fusion not in ("correlation", "add", "none"),
            "with model.fusion correlation, add or none",
        ),
        Rule("loss.disparity_weight", lambda c: c.model.fusion == "correlation", "without model.fusion correlation"),
        Rule("loss.disparity_weight", lambda c: c.train.parts != "denoiser", "with train.parts denoiser"),
        Rule(
            "diffusion.denoise_fraction",
            lambda c: not (c.diffusion.sampled_steps and c.diffusion.start_fraction == 1),
            "with diffusion.sampled_steps and start_fraction 1, since later steps without noise change nothing",
        ),
        Rule(
            "diffusion.sampled_steps", lambda c: c.diffusion.denoise_fraction > 0, "with diffusion.denoise_fraction 0"
        ),
        Rule("diffusion.perceptual_floor", lambda c: c.loss.has_perceptual, "with loss.perceptual none"),
    ),
    "cdc": _PAPER,
    "dicm": _PAPER,
}
READ_IF |= {codec: _PEER for codec, kinds in SECTIONS.items() if kinds["diffusion"] is NoDiffusionConfig}
"""model.codec ("": every one) -> when its settings are read."""


def settings_of(codec: str) -> set[str]:
    """The dotted fields, for example "loss.lmbda", of the sections that differ between families of codecs."""
    return {f"{section}.{f.name}" for section, kind in SECTIONS[codec].items() for f in dataclasses.fields(kind)}


def flat(settings: Any, path: str = "") -> dict[str, Any]:
    """Dotted field -> value of every setting, for example "data.augment.width" -> 256."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        name = f"{path}{f.name}"
        found |= flat(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return found


def differences(left: dict[str, Any], right: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> both values, where two flat configurations differ; None: a codec without that setting."""
    both = {name: (left.get(name), right.get(name)) for name in left | right}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def validate(config: Config, preset: Config | None = None) -> None:
    """Raise ConfigError for a setting that cannot be, or that nothing reads though it differs from its default.

    `preset`: the configuration that the user started from. What it sets and the user has left as it is may stay unread,
    where another choice of the user's has made it so.
    """
    check_codec(config)
    for sentence in _conflicts(config):
        raise ConfigError(sentence)
    own = flat(preset) if preset is not None else {}
    for name, (value, default, reason) in unread(config).items():
        if name not in own or own[name] != value:
            of_codec = name.startswith(("model.", "diffusion.", "loss."))
            nobody = f"codec {config.model.codec} does not read it" if of_codec else "nothing reads it"
            raise ConfigError(f"{name} is {_text(value)}, but {nobody} {reason}: leave it at {_text(default)}.")


def check_codec(config: Config) -> None:
    """Raise ConfigError unless a codec can be built and numbers are in their bounds: checkpoints are checked so too."""
    for section, kind in SECTIONS[config.model.codec].items():
        if type(getattr(config, section)) is not kind:
            raise ConfigError(
                f"The section {section} is a {type(getattr(config, section)).__name__}, but codec {config.model.codec} "
                f"has a {kind.__name__}: start from one of its presets."
            )
    _check_intervals(config)
    for sentence in _codec_conflicts(config):
        raise ConfigError(sentence)


def unread(config: Config) -> dict[str, tuple[Any, Any, str]]:
    """Dotted field -> (value, default, reason) of settings that differ from their default and that nothing reads."""
    values = flat(config)
    defaults = flat(Config(**{name: kind() for name, kind in SECTIONS[config.model.codec].items()}))
    return {
        name: (values[name], defaults[name], rule.otherwise)
        for rule in READ_IF[""] + READ_IF.get(config.model.codec, _PEER)
        if not rule.read(config)
        for name in rule.fields.split()
        if name in values and values[name] != defaults[name]
    }


def effective(config: Config) -> dict[str, Any]:
    """`flat` with every setting that nothing reads at its default: equal ones are the same experiment."""
    return flat(config) | {name: default for name, (_, default, _) in unread(config).items()}


def _always_noisy(d: Any) -> bool:
    """Whether each sample has a task that asks the denoiser, which is skipped at gamma 0."""
    return bool(d.start_fraction == 0 or (d.denoise_fraction == 1 and not d.sampled_steps))


def _check_intervals(config: Config) -> None:
    values = flat(config)
    for interval, names in INTERVALS.items():
        low, high = map(float, interval[1:-1].split(","))
        for name in filter(values.__contains__, names.split()):
            value = values[name]
            for entry in entries(value):
                above = low <= entry if interval[0] == "[" else low < entry
                below = entry <= high if interval[-1] == "]" else entry < high
                if not (above and below):
                    raise ConfigError(f"{name} is {_text(value)}; it must lie in {interval}.")


def entries(value: Any) -> Iterator[Any]:
    """The value itself, or all that a tuple holds."""
    if isinstance(value, tuple):
        for entry in value:
            yield from entries(entry)
    else:
        yield value


def _codec_conflicts(config: Any) -> Iterator[str]:
    """A sentence for each reason why the codec cannot be built."""
    model, diffusion, rates = config.model, config.diffusion, config.loss.rates
    if len(rates) != 2 or rates[0] > rates[1]:
        yield f"loss.rates is {_text(rates)}; it has two rates, the lowest and the highest, in 0 to 1."
    if model.codec == "diffusion":
        for name, value in dataclasses.asdict(model).items():
            if isinstance(value, tuple) and len(value) != SCALES:
                yield f"model.{name} has {len(value)} entries; it needs {SCALES}, from 1/4 to 1/16 of the image."
        if model.fusion not in ("correlation", "add", "none") and not any(model.attend):
            yield f"model.attend is False at every scale, so fusion {model.fusion} would attend nowhere: set one."
        if model.fusion in ALIGNED and model.attend[0]:
            yield (
                f"model.attend is True at the finest scale, where fusion {model.fusion} moves the side image by the "
                "match of a coarser one instead: set its first entry to False."
            )
        if diffusion.gamma > 0 and not diffusion.denoises:
            yield f"diffusion.gamma is {diffusion.gamma:g}; {UNTRAINED_DENOISER}"
        if diffusion.sampled_steps == 1:
            yield "diffusion.sampled_steps is 1; it is 0, or at least 2."
        return
    if isinstance(model, CamModelConfig) and (model.height % STRIDE or model.width % STRIDE):
        yield f"model.height and model.width are {model.height} and {model.width}; they must be multiples of {STRIDE}."
    if not isinstance(diffusion, PaperDiffusionConfig):
        return
    if model.codec == "cdc" and model.fusion != "none":
        yield f"model.fusion is {model.fusion}, but model.codec cdc has no side image: set none."
    if diffusion.prediction == "epsilon" and diffusion.schedule != "linear":
        yield (
            f"diffusion.prediction epsilon needs diffusion.schedule linear: {diffusion.schedule} ends in (almost) pure "
            "noise, from which no epsilon gives back an image."
        )
    if diffusion.timesteps < diffusion.steps:
        yield f"diffusion.timesteps is {diffusion.timesteps}; there must be as many as diffusion.steps."


def _conflicts(config: Any) -> Iterator[str]:
    """A sentence for each reason why the codec cannot be trained so."""
    if config.name in ("", ".", "..") or PurePath(config.name).name != config.name:
        yield f"The name of a run is {config.name!r}; it must be the name of a folder, without a path."
    loss, train, crop = config.loss, config.train, config.data.augment
    yield from _data_conflicts(config)
    fields = "shapes" if crop.shapes else "height and width"
    for height, width in crop.crops():
        size = f"The training crop is {width}x{height}"
        model = config.model
        if isinstance(model, CamModelConfig) and (height, width) != (model.height, model.width):
            yield f"{size}, but codec {model.codec} is made for {model.width}x{model.height} alone: set both alike."
        if height % STRIDE or width % STRIDE:
            yield f"{size}; data.augment.{fields} must be multiples of {STRIDE}."
        if loss.ms_ssim_weight > 0 and min(height, width) < MS_SSIM_MIN_EDGE:
            yield (
                f"{size}, but MS-SSIM, which loss.ms_ssim_weight {loss.ms_ssim_weight:g} asks for, needs edges of "
                f"{MS_SSIM_MIN_EDGE} pixels: enlarge data.augment.{fields}, or set loss.ms_ssim_weight to 0."
            )
    if loss.perceptual != "none" and not loss.has_perceptual:
        yield (
            f"loss.perceptual is {loss.perceptual}, but loss.perceptual_weight is {loss.perceptual_weight:g}: give it "
            "a weight above 0, or choose none."
        )
    if loss.adversarial_weight > 0 and loss.perceptual != "effnet":
        yield (
            "loss.adversarial_weight needs loss.perceptual effnet with a loss.perceptual_weight above 0: the critic "
            "works on its features, and its logit is weighted with the distance."
        )
    if config.model.codec == "diffusion" and train.parts == "denoiser" and not _always_noisy(config.diffusion):
        yield (
            f"diffusion.start_fraction is {config.diffusion.start_fraction:g}, but train.parts denoiser learns nothing "
            "from samples without noise, and a process that has no others would stop the run: set it to 0."
        )
    if isinstance(config.diffusion, NoDiffusionConfig) and train.parts == "denoiser":
        yield f"train.parts is denoiser, but codec {config.model.codec} has none: choose all or receiver."
    if loss.lambda_min > loss.lambda_max:
        yield f"loss.lambda_min is {loss.lambda_min:g}, above loss.lambda_max {loss.lambda_max:g}."
    if train.batch_size % train.accumulation:
        yield f"train.batch_size {train.batch_size} is no multiple of train.accumulation {train.accumulation}."


def _data_conflicts(config: Any) -> Iterator[str]:
    """A sentence for each reason why the training crops or the sets of pictures cannot be."""
    data, model = config.data, config.model
    for shape in data.augment.shapes:
        if len(shape) != 2:
            yield f"data.augment.shapes has {_text(shape)}; each shape is a height and a width."
    for option, parts in (("data.mix", data.mix), ("data.val", data.val)):
        names = [part.name for part in parts]
        for part in parts:
            where = f"The set {part.name} of {option}"
            if not SET_NAME.fullmatch(part.name) or names.count(part.name) > 1:
                yield f"{where} needs a name of its own, of letters, digits, - and _."
            if not 0 <= part.weight < math.inf:
                yield f"{where} has the weight {part.weight:g}; it must lie in [0, inf)."
            if not 0 < part.scale_min <= part.scale_max < math.inf:
                yield (
                    f"{where} has scales from {part.scale_min:g} to {part.scale_max:g}; the first must be above 0 and "
                    "at most the second."
                )
            if part.source == "photos" and not part.root:
                yield f"{where} needs a folder of photographs: {part.name}=photos:DIR."
            if part.source == "photos" and part.role == "pairs":
                yield f"{where} is of photos, which are no pairs: set role=pictures."
            if part.role == "pictures" and part.source != "photos" and option == "data.val":
                yield f"{where} is validated as it is stored: leave role=pictures out, which is for training."
            if part.root and part.source == "builtin":
                yield f"{where} has the root {part.root}, but {part.source} is made here and has none: leave it out."
            if part.role == "pictures" and model.fusion != "none" and not getattr(model, "side_dropout", 0):
                yield (
                    f"{where} has no side image, and the model has no null input for it: set model.side_dropout above "
                    "0, or leave the set out."
                )
    if data.mix and not any(part.weight for part in data.mix):
        yield "No set of data.mix has a weight above 0: give one."


def _text(value: Any) -> str:
    """As one would type it."""
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
