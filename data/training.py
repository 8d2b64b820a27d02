"""What a run trains on and validates on, checked before the first step."""

from __future__ import annotations

import math
from collections.abc import Mapping

from config import Config, DataConfig, MixConfig
from data.files.cache import PictureCache
from data.files.listing import ListedSource
from data.mixture import Mixture, Part
from data.pair import PairSource
from data.sources import MADE, open_source, verify
from data.transforms import Augment


def training_data(config: Config) -> Mixture:
    """The mixture of training sources, each checked for damage before the first step."""
    data, seed = config.data, config.train.seed
    cache = PictureCache(data.cache * 2**20)
    shapes = data.augment.crops()
    parts = []
    for part in data.training():
        # A source that makes its pictures makes them as large as the crop; one that reads them is opened once.
        sizes = shapes if part.source in MADE else shapes[:1]
        sources = [_open(data, part, "train", seed=seed, height=height, width=width) for height, width in sizes]
        for source in sources:
            if isinstance(source, ListedSource):
                source.cache = cache
        parts.append(Part(sources, part.weight, (part.scale_min, part.scale_max), part.role == "pairs"))
    transform = Augment(data.augment)
    return Mixture(parts, transform, seed, data.mismatched, shapes=shapes, batch_size=config.train.batch_size)


def validation_data(config: Config) -> dict[str, PairSource]:
    """The pairs or pictures of `val` that validation inside training decodes, by the name of their set, checked."""
    data = config.data
    height, width = data.augment.crops()[0]
    options = {"limit": data.val_limit or None, "height": height, "width": width}
    return {part.name: _open(data, part, "val", **options) for part in data.validation()}


def _open(data: DataConfig, part: MixConfig, split: str, **options: int | None) -> PairSource:
    size = "train" if split == "train" else "protocol"
    root = data.root_of(part)
    settings = {"split": split, "root": root, "size": size, "protocol": data.protocol} | options
    # All files of a split are looked into, also where only some of its pairs are used.
    verify(open_source(part.source, **settings | {"limit": None}))  # type: ignore[arg-type]
    return open_source(part.source, **settings)  # type: ignore[arg-type]


def data_report(config: Config, mixture: Mixture, validation: Mapping[str, PairSource]) -> str:
    """What trains and what validates: of each source its root, pairs and share, so that nobody has to guess."""
    data = config.data

    def described(part: MixConfig, source: PairSource) -> str:
        things = "pairs" if part.role == "pairs" else "single pictures"
        return f"{part.name} ({data.root_of(part) or 'made here'}): {len(source):,} {things}"

    trained = [part for part in data.training() if part.weight]
    total = math.fsum(part.weight for part in trained)
    shares = [
        f"{described(part, open_part.sources[0])}, {part.weight / total:.1%}"
        for part, open_part in zip(trained, mixture.parts, strict=True)
    ]
    held_out = [f"{described(part, validation[part.name])} of the split val" for part in data.validation()]
    return f"trains on {'; '.join(shares)}; validates on {'; '.join(held_out)}"
