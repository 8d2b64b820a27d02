"""What a run trains on and validates on, checked before the first step."""

from __future__ import annotations

import math

from config import Config
from data.mixture import Mixture
from data.pair import PairSource
from data.sources import open_source, verify
from data.transforms import Augment


def training_data(config: Config) -> Mixture:
    """The mixture of training sources, each checked for damage before the first step."""
    data = config.data
    size = {"height": data.augment.height, "width": data.augment.width}
    sources = []
    for name, weight in data.weights().items():
        source = open_source(
            name,
            split="train",
            root=data.root(name),
            size="train",
            protocol=data.protocol,
            seed=config.train.seed,
            **size,
        )
        verify(source)
        sources.append((source, weight))
    return Mixture(sources, Augment(data.augment), seed=config.train.seed, mismatched=data.mismatched)


def validation_data(config: Config) -> PairSource:
    """The pairs of `val` that validation inside training decodes, checked for damage."""
    data = config.data
    source = open_source(
        data.dataset,
        split="val",
        root=data.root(data.dataset),
        protocol=data.protocol,
        limit=data.val_limit or None,
        height=data.augment.height,
        width=data.augment.width,
    )
    verify(source)
    return source


def data_report(config: Config, mixture: Mixture, validation: PairSource) -> str:
    """What trains and what validates: of each source its root, pairs and share, so that nobody has to guess."""
    data = config.data

    def place(name: str) -> str:
        return f"{name} ({data.root(name) or 'made here'})"

    weights = data.weights()
    parts = [
        f"{place(name)}: {len(source):,} pairs, {weight / math.fsum(weights.values()):.1%}"
        for source, (name, weight) in zip(mixture.sources, weights.items(), strict=True)
    ]
    return (
        f"trains on {'; '.join(parts)}; validates on {place(data.dataset)}: {len(validation):,} pairs of the split "
        f"{validation.split}"
    )
