"""The studies: what each asks, and the variants that answer it, as fields of train.py. Add one here."""

from __future__ import annotations

from dataclasses import dataclass

LAMBDA_MIN, LAMBDA_MAX = 0.0001, 0.02
LEVELS_APART = (0.0, 1 / 3, 2 / 3, 1.0)
"""Rates of the study `rate`: whole levels (0, 85, 170 and 255), so that both kinds of model have the same lambdas."""


@dataclass(frozen=True)
class Variant:
    """One answer. `fields` are options of train.py.

    With `lambdas` a fixed-rate model is trained for each of them; with `rates` a model of variable form for each of
    them alone, which can start from a variable-rate one. `times` as many steps are trained as of other variants.
    """

    name: str
    fields: tuple[str, ...] = ()
    lambdas: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    times: int = 1


@dataclass(frozen=True)
class Study:
    """A question, and the conditions that all its variants share.

    The first of `references` is the baseline, whose training time the others get under equal seconds; BD-rates are
    given against each of them. `rates` are evaluated of variable-rate models. `init` is the checkpoint from which all
    start, "" for fresh weights. With `allowed`, the study fails if a variant's PSNR BD-rate against the baseline is
    higher (percent).
    """

    name: str
    asks: str
    fields: tuple[str, ...]
    variants: tuple[Variant, ...]
    references: tuple[str, ...]
    steps: int
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    preset: str = "small"
    init: str = ""
    budgets: tuple[str, ...] = ("pairs",)
    wrong_sides: bool = False
    """Whether the evaluation also decodes with no and with a wrong side image, at the middle rate."""
    allowed: float | None = None


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


SMALL_NETWORK = _words(
    "--model.latent 96 --model.hyper 48 --model.analysis-channels 32 64 96 --model.analysis-blocks 1 1 1 "
    "--model.synthesis-channels 32 64 96 --model.unet-channels 40 64 96 "
    "--model.embedding 64"
)
"""Half as wide as the preset `small`: 1.8 M parameters, so that a study takes hours on two cores, not days."""

ONE_TASK = _words(
    "--data.val-limit 1 --loss.perceptual none --loss.perceptual-weight 0 "
    "--diffusion.denoise-fraction 0 --diffusion.start-fraction 1 --train.ema 0.99"
)
"""Only real pairs and only the start of decoding with gamma 0: what the evaluation judges by PSNR and MS-SSIM."""

FROM_SCRATCH = ("--train.lr", "1e-3")
VARIABLE = _words(f"--loss.lambda-min {LAMBDA_MIN:g} --loss.lambda-max {LAMBDA_MAX:g}")
"""What a fixed-rate model does not read."""
SMALL_SIDE = _words("--model.side-channels 32 48 80")
"""What a model without side image does not read."""


def _fusion(kind: str) -> Variant:
    return Variant(kind, ("--model.fusion", kind, *(SMALL_SIDE if kind != "none" else ())))


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            name="fusion",
            asks="Which fusion with the side image saves most bits, after equal pairs and after equal time?",
            fields=(*SMALL_NETWORK, *ONE_TASK, *FROM_SCRATCH, *VARIABLE),
            variants=tuple(
                _fusion(kind) for kind in ("add", "none", "row_attention", "both", "aligned", "pixel_aligned")
            ),
            references=("add", "none"),
            steps=1000,
            seeds=(0, 1, 2),
            rates=(0.0, 0.25, 0.5, 0.75, 1.0),
            budgets=("pairs", "seconds"),
            wrong_sides=True,
        ),
        Study(
            name="rate",
            asks="How many more bits does one variable-rate model need than a model for each lambda?",
            fields=(*SMALL_NETWORK, *SMALL_SIDE, *ONE_TASK, *FROM_SCRATCH),
            variants=(
                Variant(
                    "single_rate",
                    lambdas=tuple(LAMBDA_MIN * (LAMBDA_MAX / LAMBDA_MIN) ** rate for rate in LEVELS_APART),
                ),
                Variant("variable_rate", VARIABLE),
                Variant("variable_rate_all_pairs", VARIABLE, times=len(LEVELS_APART)),
                Variant("mean_before_gain", (*VARIABLE, "--model.mean-before-gain")),
            ),
            references=("single_rate", "variable_rate"),
            steps=1000,
            seeds=(0,),
            rates=LEVELS_APART,
            allowed=3.0,
        ),
        Study(
            name="trained_rate",
            asks="How many more bits does a trained variable-rate model need than copies trained on for one rate each?",
            fields=(*ONE_TASK, "--train.lr", "3e-4"),
            variants=(
                Variant("single_rate", rates=LEVELS_APART),
                Variant("variable_rate"),
                Variant("variable_rate_all_pairs", times=len(LEVELS_APART)),
            ),
            references=("single_rate",),
            steps=400,
            seeds=(0,),
            rates=LEVELS_APART,
            init="checkpoints/small_stage1",
            allowed=3.0,
        ),
    )
}
