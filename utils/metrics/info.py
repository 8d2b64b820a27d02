"""What each metric is: its name, unit, direction, network, and one sentence for the reader of a report."""

from __future__ import annotations

from dataclasses import dataclass

from modules.pretrained.weights import WEIGHTS


@dataclass(frozen=True)
class MetricInfo:
    """One metric. `scope` is "image" (one value an image, averaged) or "set" (one value a set of images).

    `network` names the weights (modules/pretrained/weights.py) whose features it compares, or is "".
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    scope: str
    meaning: str
    network: str = ""

    @property
    def needs_download(self) -> bool:
        """Whether its weights are not carried by an installed package."""
        return self.network in WEIGHTS


METRICS: dict[str, MetricInfo] = {
    info.name: info
    for info in (
        MetricInfo(
            name="psnr",
            label="PSNR",
            unit="dB",
            higher_is_better=True,
            scope="image",
            meaning="Mean over images of the peak signal-to-noise ratio of RGB values; 100 dB for an identical image.",
        ),
        MetricInfo(
            name="ssim",
            label="SSIM",
            unit="",
            higher_is_better=True,
            scope="image",
            meaning="Structural similarity (Gaussian window of 11, sigma 1.5, mean of R, G and B); 1 is identical.",
        ),
        MetricInfo(
            name="ms_ssim_db",
            label="MS-SSIM",
            unit="dB",
            higher_is_better=True,
            scope="image",
            meaning=(
                "Mean over images of -10 log10(1 - MS-SSIM), five scales; window 11 where the shorter side exceeds 160 "
                "pixels, else 7 where it exceeds 96; 50 dB for an identical image."
            ),
        ),
        MetricInfo(
            name="lpips_alex",
            label="LPIPS (AlexNet)",
            unit="",
            higher_is_better=False,
            scope="image",
            network="alexnet",
            meaning="Learned perceptual distance, version 0.1, images in [-1, 1]; 0 is identical.",
        ),
        MetricInfo(
            name="lpips_vgg",
            label="LPIPS (VGG)",
            unit="",
            higher_is_better=False,
            scope="image",
            network="vgg16",
            meaning="Learned perceptual distance, version 0.1, images in [-1, 1]; 0 is identical.",
        ),
        MetricInfo(
            name="dists",
            label="DISTS",
            unit="",
            higher_is_better=False,
            scope="image",
            network="vgg16",
            meaning="Deep structure and texture distance (torchmetrics' network, no resizing); 0 is identical.",
        ),
        MetricInfo(
            name="cvvdp",
            label="ColorVideoVDP",
            unit="JOD",
            higher_is_better=True,
            scope="image",
            meaning=(
                "Visible difference on a calibrated display (standard_fhd: 24-inch 1920x1080, 200 cd/m2, 37.8 pixels a "
                "degree), in just-objectionable differences below 10, which is identical."
            ),
        ),
        MetricInfo(
            name="effnet_dist",
            label="EfficientNet distance",
            unit="",
            higher_is_better=False,
            scope="image",
            network="efficientnet_lite2",
            meaning="Distance of unit-length EfficientNet-Lite2 features at five scales; 0 is identical. Not LPIPS.",
        ),
        MetricInfo(
            name="fid",
            label="FID",
            unit="",
            higher_is_better=False,
            scope="set",
            network="inception",
            meaning=(
                "Fréchet distance of Inception features (2048) between originals and reconstructions; with n below "
                "some thousands it is biased upward and comparable only at the same n."
            ),
        ),
        MetricInfo(
            name="kid",
            label="KID",
            unit="",
            higher_is_better=False,
            scope="set",
            network="inception",
            meaning="Unbiased kernel distance of Inception features (2048); may be slightly negative near 0.",
        ),
        MetricInfo(
            name="kd_effnet",
            label="EfficientNet kernel distance",
            unit="",
            higher_is_better=False,
            scope="set",
            network="efficientnet_lite2",
            meaning=(
                "Unbiased kernel distance between spatial EfficientNet-Lite2 features (stage5, 1/16, 120 channels) of "
                "originals and reconstructions: are the textures those of real images? 0 is ideal."
            ),
        ),
        MetricInfo(
            name="fd_effnet",
            label="EfficientNet Fréchet distance",
            unit="",
            higher_is_better=False,
            scope="set",
            network="efficientnet_lite2",
            meaning="Fréchet distance of the same spatial features as the EfficientNet kernel distance. Not FID.",
        ),
    )
}


def independent_of(network: str) -> list[str]:
    """The metrics that may judge a model trained with a loss on `network` (modules/pretrained/weights.py; "": none)."""
    return [name for name, info in METRICS.items() if not network or info.network != network]
