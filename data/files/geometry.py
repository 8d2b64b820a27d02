"""How a stored image becomes the image of the protocol: a centre crop, then a bilinear resize."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.errors import DataError


@dataclass(frozen=True)
class Fit:
    """Sizes are (height, width) in pixels; a step whose field is None is left out.

    `crop` cuts the centre (as torchvision's CenterCrop does), `resize` scales to a fixed size, `scale` (numerator,
    denominator) by a factor with both sides rounded to the nearest pixel. Scaling is Pillow's antialiased bilinear.
    """

    crop: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    scale: tuple[int, int] | None = None

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        """The fitted (H, W, 3) uint8 image. Raises DataError, naming `name`, if the crop does not fit into it."""
        if self.crop is not None:
            image = _centre_crop(image, *self.crop, name)
        if self.resize is not None:
            image = resize(image, *self.resize)
        if self.scale is not None:
            numerator, denominator = self.scale
            height, width = (round(side * numerator / denominator) for side in image.shape[:2])
            image = resize(image, height, width)
        return np.ascontiguousarray(image)

    def check(self, height: int, width: int, name: str) -> None:
        """Raises the DataError that fitting an image of this size would raise."""
        if self.crop is not None and (height < self.crop[0] or width < self.crop[1]):
            raise DataError(
                f"{name} is {width}x{height}, smaller than the protocol's crop of {self.crop[1]}x{self.crop[0]}; "
                "use the data set's original images, or --size full."
            )


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The (H, W, 3) uint8 image scaled to (height, width, 3) by Pillow's antialiased bilinear filter."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _centre_crop(image: NDArray[np.uint8], height: int, width: int, name: str) -> NDArray[np.uint8]:
    Fit(crop=(height, width)).check(image.shape[0], image.shape[1], name)
    top = round((image.shape[0] - height) / 2)
    left = round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]
