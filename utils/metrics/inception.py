"""Inception features for FID and KID, by torch-fidelity's port of the original TensorFlow network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.errors import WeightsError
from utils.frozen import freeze
from utils.weights import resolve

DIMENSION = 2048
KID_SUBSET_SIZE = 1000
"""KID's subsets hold this many images, or all there are."""
MIN_IMAGES = 10
"""Images below which FID and KID are not reported: of so few, one vector each, 2048 variances say nothing."""


class InceptionFeatures:
    """InceptionV3 (2015-12-05) pooled features (2048), with torch-fidelity's own resizing to 299x299.

    Raises WeightsError, with the remedy, if the weights cannot be had or are not the published ones.
    """

    min_side = 1

    def __init__(
        self, device: torch.device, weights_dir: str | Path | None = None, *, allow_unverified: bool = False
    ) -> None:
        path = resolve("inception", weights_dir, allow_unverified=allow_unverified)
        if find_spec("torch_fidelity") is None:
            raise WeightsError("FID and KID need a package that is not installed: run `pip install torch-fidelity`.")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        torch.load(path, map_location="cpu", weights_only=True)  # the package would unpickle anything
        with torch.random.fork_rng(devices=[]):
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(DIMENSION)], feature_extractor_weights_path=str(path)
            )
        self._network = freeze(network).to(device)

    def features(self, image: Tensor) -> NDArray[np.float32]:
        """Features (2048,) of an image (1, 3, H, W) uint8."""
        return self._network(image)[0][0].float().cpu().numpy()
