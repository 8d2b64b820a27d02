"""The methods at full size: commands for 1 and 8 GPUs, and what they cost (`train_all.py --full`).

Steps and batch are the presets', which `config.py` gives their sources; KITTI and Cityscapes are both 128x256, so they
cost the same. The operations of a training step are counted (forward, backward, frozen perceptual network), and hours
follow from SUSTAINED, an assumption for an A100 in float32 with TF32 (`CDC` assumes it too). Small batches reach less.
"""

from __future__ import annotations

import dataclasses

import torch

from config import PRESETS, Config
from modules.codec import build_codec
from modules.losses import objective
from modules.noise import Draws
from scripts.studies.methods import METHODS

SUSTAINED, EFFICIENCY = 8e12, 0.9
"""Operations a second of one GPU, and the share of that which each of 8 GPUs keeps."""
GPUS = 8
PIXELS = 128 * 256
COUNTED_AT = (64, 128)
"""Size at which operations are counted; they grow with the number of pixels."""
PERCEPTUAL = {"lpips_vgg": 60.2e9, "effnet": 1.6e9, "none": 0.0}
"""Of x, of x_hat and back to x_hat at 128x256: VGG16's convolutions have 10.03 G multiplications and additions."""
OURS = ("base", "base_mean", "base_one_step")
"""Our full-size model has three trainings, each from the weights of the one before."""


def presets_of(method: str) -> tuple[str, ...]:
    """The presets that train a method at full size."""
    return OURS if method == "ours" else (METHODS[method].preset,)


def operations(config: Config) -> float:
    """Of a training step, for each pair of 128x256; a multiplication and an addition are two."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    codec = build_codec(config).train()
    height, width = codec.only_size or COUNTED_AT
    x = torch.rand(1, 3, height, width)
    settings = dataclasses.replace(config.loss, perceptual="none", ms_ssim_weight=0.0)
    # Attention as matrix products, since the counter does not know the CPU's fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = codec(x, x, Draws([0]))
        loss, _ = objective(output, settings, codec.variable_rate, None)
        (loss if output.aux is None else loss + output.aux).backward()
    tasks = len(output.tasks) * PERCEPTUAL[config.loss.perceptual]
    return counter.get_total_flops() * PIXELS / (height * width) + tasks


def commands(preset: str, rate: str, init: str) -> list[str]:
    """On 1 and on 8 GPUs: as many pairs in batches of at least one pair a GPU."""
    train = PRESETS[preset].train
    batch = max(GPUS, train.batch_size)
    steps, decay = (n * train.batch_size // batch for n in (train.steps, train.decay))
    start = " ".join(filter(None, (f"train.py --preset {preset}", rate, init)))
    changed = "" if batch == train.batch_size else (
        f" --train.batch-size {batch} --train.steps {steps} --train.decay {decay}"
    )  # fmt: skip
    return [f"accelerate launch {start}", f"accelerate launch --multi_gpu --num_processes {GPUS} {start}{changed}"]


def table(methods: list[str]) -> str:
    """A Markdown row a training, and the commands below."""
    rows = ["| preset | models | batch | steps | GFLOP a pair | hours, 1 GPU | hours, 8 GPUs |", "|---" * 7 + "|"]
    lines = []
    for method in methods:
        models = METHODS[method].rates
        for number, preset in enumerate(presets_of(method)):
            train, each = PRESETS[preset].train, operations(PRESETS[preset])
            hours = len(models) * train.steps * train.batch_size * each / SUSTAINED / 3600
            rows.append(
                f"| {preset} | {len(models)} | {train.batch_size} | {train.steps:,} | {each / 1e9:,.0f} | "
                f"{hours:,.0f} | {hours / GPUS / EFFICIENCY:,.1f} |"
            )
            init = f"--init runs/{OURS[number - 1]}" if number else ""
            for rate_number, rate in enumerate(models):
                named = f"{rate} --name {preset}_{rate_number}" if rate else ""
                lines += commands(preset, named, init)
    notes = (
        f"Hours at {SUSTAINED / 1e12:g} TFLOP/s a GPU, sustained, and {EFFICIENCY:.0%} of it on each of {GPUS}: an "
        "assumption. For Cityscapes add --data.dataset cityscapes. A batch below 8 is enlarged to 8 on 8 GPUs, with as "
        "many pairs in all: choose the learning rate again."
    )
    return "\n".join([*rows, "", notes, "", *lines])
