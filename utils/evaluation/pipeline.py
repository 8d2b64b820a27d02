"""The whole evaluation: plan, sweep, anchors, summary, plots, report. `evaluate.py` is its command line."""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from config import MixConfig
from data import sources
from data.pair import PairSource
from utils.checkpoint import find_model_file
from utils.errors import ConfigError
from utils.evaluation import anchors
from utils.evaluation.code import code_digest
from utils.evaluation.plan import Model, Point, Request, describe_models, plan_points
from utils.evaluation.side import NONE
from utils.evaluation.store import Store, refuse_losses
from utils.evaluation.summary import Results, summarise, write_csv
from utils.evaluation.sweep import Sweep
from utils.files import write_json
from utils.launch import check_launch
from utils.metrics.info import SIX
from utils.metrics.suite import MetricSuite, select
from utils.run import environment
from utils.training.precision import resolve

MAX_PAIRS = 100_000
_BARRIER = timedelta(days=7)  # the default of 10 to 30 minutes is shorter than a slow process may lag behind


def evaluate(options: Namespace, command: str = "") -> Path | None:
    """What the command line of evaluate.py asks for; `command` is what the report shows of it.

    Returns the output folder, None in all but the main process. Raises ProjectError with what to do.
    """
    # 1. What is refused before any work; then the processes.
    started = time.monotonic()
    metrics = select(options.metrics)
    wanted = _anchors(options.anchors)
    if options.out is not None:
        refuse_losses(Path(options.out), [*map(find_model_file, options.ckpt), options.data_root, options.weights_dir])
    # Accelerate joins the processes of a machine without a GPU only if it is told that they are to use the CPU.
    cpu = options.device == "cpu" or not torch.cuda.is_available()
    check_launch(cpu)
    state = PartialState(cpu=cpu, timeout=_BARRIER)
    device = _device(options.device, state)
    # 2. The plan: checkpoints, pairs, points, anchors.
    models = describe_models(options.ckpt)
    source = _open(options, models)
    request = Request(options.rates, options.steps, options.gamma, _sides(options, source))
    points, notes = plan_points(models, request, list(source.groups))
    usable = [name for name in wanted if anchors.unavailable(name) is None]
    notes += [str(anchors.unavailable(name)) for name in wanted if name not in usable]
    precision = resolve(options.precision, device.type)
    facts = environment()
    facts["packages"] |= anchors.versions(usable)
    settings = _settings(options, models, source, points, usable, precision) | {
        f"version of {name}": found for name, found in facts["packages"].items()
    }
    # 3. The output folder, which continues if it is this evaluation's, and the metrics.
    out = Path(options.out) if options.out else _default_out(settings, models)
    store = Store(out, source.ids, state.process_index)
    store.open(settings, writes=state.is_main_process)
    if options.weights_dir is not None and not Path(options.weights_dir).is_dir():
        raise ConfigError(f"--weights-dir {options.weights_dir} is no folder; scripts/fetch_weights.py prepares one.")
    suite = MetricSuite(metrics, device, options.weights_dir)
    sweep = Sweep(source, store, suite, state)
    if state.is_main_process:
        sources.verify(source)
    for note in notes:
        _say(state, note)
    _say(state, f"{len(source)} pairs of {source.name} {source.split}, {len(points)} points, to {out}")
    # 4. Coding, then measuring, both through files.
    begin = time.monotonic()
    sweep.code_models(models, points, device, tile_rows=options.tile_rows, precision=precision)
    points += sweep.code_anchors(usable, points)
    coded = time.monotonic()
    sweep.measure(points)
    if suite.seconds:
        _say(state, f"coding took {coded - begin:.1f} s; metrics {suite.shares()}")
    # 5. What it found.
    if state.is_main_process:
        store.read_logs()
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        facts |= {
            "command": command,
            "device": str(device),
            "decoding_precision": precision,
            "processes": state.num_processes,
            "seconds": round(time.monotonic() - started, 1),
            "peak_memory_mib": round(kilobytes / (2**20 if sys.platform == "darwin" else 2**10)),
            "anchors": {name: anchors.SETTINGS[name] for name in usable},
            "notes": notes,
            "checkpoints": [{"path": m.given, "step": m.loaded.step, "sha256": m.digest} for m in models],
            "data_root": settings["data_root"],
            "protocol": settings["protocol"],
            "metric_seconds": {name: round(seconds, 2) for name, seconds in suite.seconds.items()},
        }
        results = summarise(points, models, source, store, suite, size=options.size, environment=facts)
        _write(out, results, source, store)
    if state.num_processes > 1:
        torch.distributed.destroy_process_group()
    return out if state.is_main_process else None


def _write(out: Path, results: Results, source: PairSource, store: Store) -> None:
    from utils.report.figures import write_figures
    from utils.report.page import write_report
    from utils.report.tables import footnotes, markdown, points_rows

    points, data = results.summary["points"], results.summary["dataset"]
    write_csv(out / "images.csv", results)
    intervals = f"95 % intervals over {data['groups']} groups" if data["groups"] > 1 else "one group, no intervals"
    write_figures(points, out, f"{data['name']} {data['split']}, {data['pairs']} pairs, {intervals}")
    write_report(out / "report.html", results, source, store)
    write_json(out / "summary.json", results.summary)
    measured = list(points[0]["metrics"])
    names = [name for name in SIX if name in measured] or measured
    table = markdown(points_rows(points, names, intervals=False))
    print(*table, *footnotes(points, names), sep="\n")


def _anchors(names: Sequence[str]) -> list[str]:
    if "none" in names and len(names) > 1:
        raise ConfigError("--anchors none leaves all anchors out and cannot stand beside others.")
    return [] if "none" in names else list(dict.fromkeys(names))


def _sides(options: Namespace, source: PairSource) -> Sequence[str] | None:
    """The side images that are asked for: of single pictures, whose stand-in is the original itself, none."""
    if source.name != "photos":
        return options.side  # type: ignore[no-any-return]
    if options.side not in (None, [NONE]):
        raise ConfigError(f"--side {' '.join(options.side)}: photos have no side images; leave --side out.")
    return [NONE]


def _device(name: str | None, state: PartialState) -> torch.device:
    if name is None:
        return torch.device(state.device)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device is {name!r}; choose cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device is {name}, but torch finds {torch.cuda.device_count()} CUDA devices; use cpu.")
    return torch.device(state.device) if device.type == "cuda" and state.num_processes > 1 else device


def _open(options: Namespace, models: Sequence[Model]) -> PairSource:
    first = models[0].config.data
    for model in models[1:]:
        other = model.config.data
        if options.dataset is None and other.dataset != first.dataset:
            raise ConfigError(
                f"{models[0].given} is for the data set {first.dataset} and {model.given} for {other.dataset}; choose "
                "one with --dataset."
            )
        if (options.dataset or first.dataset) == "kitti" and other.protocol != first.protocol:
            raise ConfigError(
                f"{models[0].given} and {model.given} were trained for different protocols of KITTI "
                f"({first.protocol}, {other.protocol}), whose splits overlap; evaluate them separately."
            )
    name = options.dataset or first.dataset
    if options.data_root is not None and name == "builtin":
        raise ConfigError(f"The data set {name} is made here and has no root; leave --data-root out.")
    source = sources.open_source(
        name,
        split=options.split,
        root=_root(options, models, name),
        size=options.size,
        protocol=first.protocol,
        limit=options.limit,
    )
    if len(source) > MAX_PAIRS:
        raise ConfigError(f"The {options.split} split of {name} has no end; say how many pairs with --limit N.")
    return source


def _root(options: Namespace, models: Sequence[Model], name: Any) -> str | None:
    """Where the data lie: --data-root, the checkpoint's first `val` set of this source, or the source's own root."""
    data = models[0].config.data
    own = next((part for part in data.validation() if part.source == name), MixConfig(name, name))
    return options.data_root or data.root_of(own)


def _settings(
    options: Namespace,
    models: Sequence[Model],
    source: PairSource,
    points: Sequence[Point],
    used: Sequence[str],
    precision: str,
) -> dict[str, Any]:
    """What the rows of an output folder depend on."""
    root = _root(options, models, source.name)
    pairs = hashlib.sha256(repr((list(source.ids), list(source.groups))).encode())
    return {
        "checkpoints": [[model.label, model.digest[:16]] for model in models],
        "dataset": source.name,
        "data_root": None if root is None else str(Path(root).expanduser().resolve()),
        "split": source.split,
        "size": options.size,
        "protocol": models[0].config.data.protocol if source.name == "kitti" else None,
        "limit": options.limit,
        "tile_rows": options.tile_rows,
        "precision": precision,
        "pairs": [len(source), pairs.hexdigest()[:16]],
        "points": [point.key for point in points],
        "anchors": list(used),
        "code that measures": code_digest(),
    }


def _default_out(settings: dict[str, Any], models: Sequence[Model]) -> Path:
    """results/NAME-DATASET-SPLIT-XXXXXX, where the end tells evaluations with other settings apart."""
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:6]
    name = models[0].config.name if len(models) == 1 else f"{models[0].config.name}+{len(models) - 1}"
    return Path("results") / f"{name}-{settings['dataset']}-{settings['split']}-{digest}"


def _say(state: PartialState, message: str) -> None:
    if state.is_main_process:
        print(message, file=sys.stderr, flush=True)
