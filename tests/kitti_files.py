"""Made-up copies of KITTI Stereo and Cityscapes: the real names and counts, the images tiny."""

from collections.abc import Iterable
from pathlib import Path

from image_files import encode, noise, write

FOLDERS = {2012: "data_stereo_flow_multiview", 2015: "data_scene_flow_multiview"}
CAMERAS = {2012: ("colored_0", "colored_1"), 2015: ("image_2", "image_3")}
COUNTS = {(2012, "training"): 194, (2012, "testing"): 195, (2015, "training"): 200, (2015, "testing"): 200}


def write_kitti(
    root: Path,
    scenes: dict[tuple[int, str], Iterable[int]] | None = None,
    frames: Iterable[int] = (9, 10, 11),
    height: int = 24,
    width: int = 40,
) -> Path:
    """Without `scenes`, every scene; each image has one of two contents, left and right."""
    images = [encode(noise(height, width, seed)) for seed in (0, 1)]
    for (year, part), numbers in (scenes or {key: range(n) for key, n in COUNTS.items()}).items():
        for camera, data in zip(CAMERAS[year], images, strict=True):
            folder = root / FOLDERS[year] / part / camera
            folder.mkdir(parents=True, exist_ok=True)
            for number in numbers:
                for frame in frames:
                    (folder / f"{number:06d}_{frame:02d}.png").write_bytes(data)
    return root


def write_cityscapes(root: Path, split: str, names: Iterable[str], height: int = 32, width: int = 64) -> Path:
    """`names` are CITY_SEQ_FRAME; the pixels follow from the place in the list."""
    for number, name in enumerate(names):
        for side, tree in enumerate(("leftImg8bit", "rightImg8bit")):
            path = root / tree / split / name.split("_")[0] / f"{name}_{tree}.png"
            write(path, encode(noise(height, width, 2 * number + side)))
    return root
