"""What measures: each checkpoint, then each anchor, at its points. What this file imports decides the figures."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from accelerate import PartialState

from utils.checkpoint import load_checkpoint
from utils.coding.limits import set_tile_rows
from utils.evaluation import anchors as formats
from utils.evaluation.coders import AnchorCoder, ModelCoder
from utils.evaluation.plan import Model, Point
from utils.evaluation.sweep import Sweep
from utils.run import write_json
from utils.training.precision import set_decoding_precision


def models(
    sweep: Sweep,
    described: Sequence[Model],
    points: Sequence[Point],
    device: torch.device,
    state: PartialState,
    *,
    tile_rows: int | None,
    precision: str,
) -> None:
    """Measure what is left of the checkpoints' `points`; one checkpoint is in memory at a time."""
    for place, model in enumerate(described):
        mine = [point for point in points if point.model == place]
        if sweep.todo(mine):
            codec = load_checkpoint(model.file, device).codec
            set_tile_rows(codec, tile_rows)
            set_decoding_precision(codec, precision)
            coder = ModelCoder(codec, device)
            coder.warm_up(sweep.source[0].x, mine[0])
            sweep.run(mine, coder, model.label, progress=state.is_main_process)
    state.wait_for_everyone()


def anchors(sweep: Sweep, names: Sequence[str], points: Sequence[Point], state: PartialState) -> list[Point]:
    """Measure the anchors over the rates that the checkpoints reached at `points`; returns the anchors' own points."""
    measured: list[Point] = []
    for name, qualities in _plan(sweep, names, points, state).items():
        mine = [Point(name, quality / 100) for quality in qualities]
        sweep.run(mine, AnchorCoder(name), formats.LABELS[name], progress=state.is_main_process)
        measured += mine
    state.wait_for_everyone()
    return measured


def _plan(sweep: Sweep, names: Sequence[str], points: Sequence[Point], state: PartialState) -> dict[str, list[int]]:
    """The qualities of each anchor, chosen once by the main process from the rates that the models reached."""
    store, source = sweep.store, sweep.source
    path = store.work / "anchors.json"
    if state.is_main_process and not path.is_file():
        store.read_logs()
        means = [sum(row.bpp for row in rows) / len(rows) for rows in store.collect(points).values()]
        indices = sorted({round(i * (len(source) - 1) / 3) for i in range(4)})
        images = [source[i].x for i in indices]
        chosen = {
            name: formats.choose_qualities(name, images, min(means), formats.REACH * max(means)) for name in names
        }
        write_json(path, chosen)
    state.wait_for_everyone()
    planned: dict[str, list[int]] = json.loads(path.read_text())
    return {name: planned[name] for name in names}
