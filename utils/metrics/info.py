"""What each metric is: its name, unit, direction, network, and one sentence for the reader of a report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricInfo:
    """One metric. `scope` is "image" (one value an image, averaged) or "set" (one value a set of images).

    `network` names the weights (modules/pretrained/weights.py) whose features it compares, or is "". `decimals` is how
    many decimals of a figure mean something.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    scope: str
    decimals: int
    network: str
    meaning: str


_LPIPS = "Learned perceptual distance, version 0.1, images in [-1, 1]; 0 is identical."

METRICS: dict[str, MetricInfo] = {
    row[0]: MetricInfo(*row)
    for row in (
        (
            "psnr", "PSNR", "dB", True, "image", 2, "",
            "Mean over images of the peak signal-to-noise ratio of RGB values; 100 dB for an identical image.",
        ),
        (
            "ssim", "SSIM", "", True, "image", 3, "",
            "Structural similarity (Gaussian window of 11, sigma 1.5, mean of R, G and B); 1 is identical.",
        ),
        (
            "ms_ssim_db", "MS-SSIM", "dB", True, "image", 2, "",
            "Mean over images of -10 log10(1 - MS-SSIM), five scales; window 11 where the shorter side exceeds 160 "
            "pixels, else 7 where it exceeds 96; 50 dB for an identical image.",
        ),
        ("lpips_alex", "LPIPS (AlexNet)", "", False, "image", 3, "alexnet", _LPIPS),
        ("lpips_vgg", "LPIPS (VGG)", "", False, "image", 3, "vgg16", _LPIPS),
        (
            "dists", "DISTS", "", False, "image", 3, "vgg16",
            "Deep image structure and texture similarity, no resizing; 0 is identical.",
        ),
        (
            "cvvdp", "ColorVideoVDP", "JOD", True, "image", 2, "",
            "Visible difference on a calibrated display (standard_fhd: 24-inch 1920x1080, 200 cd/m2, 37.8 pixels a "
            "degree), in just-objectionable differences below 10, which is identical.",
        ),
        (
            "fid", "FID", "", False, "set", 1, "inception",
            "Fréchet distance of Inception features (2048) between originals and reconstructions. It is biased by n: a "
            "figure compares only with figures of the same images.",
        ),
        (
            "kid", "KID", "", False, "set", 4, "inception",
            "Unbiased kernel distance of Inception features (2048); may be slightly negative near 0.",
        ),
    )
}  # fmt: skip
SIX = ("lpips_alex", "fid", "dists", "psnr", "ms_ssim_db", "ssim")
"""The metrics of the six panels, in the order of the field's papers."""
