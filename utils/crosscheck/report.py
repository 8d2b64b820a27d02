"""The outcome of a cross-check as Markdown and as one line of JSON."""

from __future__ import annotations

import json
from collections import Counter

from utils.crosscheck.session import GREY_LEVELS, Outcome
from utils.crosscheck.settings import REFERENCE

SHOWN = 20
"""Mismatches that are listed one by one."""


def markdown(outcome: Outcome, command: str) -> str:
    """All of it, ending in a newline."""
    plan = outcome.plan
    sizes = [(file.height, file.width) for file in plan.files]
    parts = sum(any(side % 64 for side in size) for size in sizes)
    rates = sorted({file.rate for file in plan.files if file.rate is not None})
    lines = [
        f"`{command}`",
        "",
        f"{plan.data.dataset} {plan.data.split}; "
        f"rates {', '.join(f'{rate:g}' for rate in rates) or 'fixed'}; "
        f"{len(set(sizes))} sizes from {_size(min(sizes))} to {_size(max(sizes))}, {parts} files of a size that needs "
        "padding.",
        "",
        *_settings(outcome),
        "",
        "Mismatches of y_hat / files, by the setting that encoded (rows) and that decoded (columns):",
        "",
        *_matrix(outcome),
        "",
        *_pictures(outcome),
        *_verdict(outcome),
    ]
    return "\n".join(lines) + "\n"


def summary(outcome: Outcome) -> str:
    """One line of JSON."""
    pictures = outcome.pictures
    return json.dumps(
        {
            "passed": outcome.passed(),
            "files": len(outcome.encoded),
            "decodes": sum(outcome.decodes.values()),
            "mismatches": len(outcome.mismatches),
            "did_not_run": outcome.failures,
            "pictures": sum(p.count for p in pictures.values()),
            "pictures_changed": sum(len(p.changed) for p in pictures.values()),
            "grey_levels_between_threads": outcome.thread_difference(),
            "torch": {name: environment["torch"] for name, environment in outcome.environments.items()},
            "seconds": round(outcome.seconds, 1),
        }
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _settings(outcome: Outcome) -> list[str]:
    lines = [_row("setting", "what", "torch", "Python", "threads", "device", "files", "mean bytes"), "|---" * 8 + "|"]
    for setting in outcome.plan.settings:
        found = outcome.environments.get(setting.name, dict.fromkeys(("torch", "python", "threads", "device"), "-"))
        sent = [record["bytes"] for number, record in outcome.encoded.items() if outcome.sender(number) == setting.name]
        mean = f"{sum(sent) / len(sent):.0f}" if sent else "-"
        lines.append(_row(setting.name, setting.what, *found.values(), len(sent), mean))
    return lines


def _matrix(outcome: Outcome) -> list[str]:
    names = [setting.name for setting in outcome.plan.settings]
    wrong = Counter((outcome.sender(number), receiver) for number, receiver, _ in outcome.mismatches)
    lines = [_row("", *names), "|---" * (len(names) + 1) + "|"]
    for sender in names:
        counts = [(wrong[sender, receiver], outcome.decodes.get((sender, receiver))) for receiver in names]
        lines.append(_row(sender, *(f"{bad} / {files}" if files else "did not run" for bad, files in counts)))
    return lines


def _pictures(outcome: Outcome) -> list[str]:
    if not outcome.pictures:
        return []
    lines = [
        "Reconstructions, each made by two processes; the difference is the largest of any value of any picture:",
        "",
        _row("setting", "pictures", "changed in the second process", f"grey levels from {REFERENCE}"),
        "|---" * 4 + "|",
    ]
    for setting in outcome.plan.settings:
        if found := outcome.pictures.get(setting.name):
            largest = "-" if found.largest is None else found.largest
            lines.append(_row(setting.name, found.count, len(found.changed), largest))
    return [*lines, ""]


def _verdict(outcome: Outcome) -> list[str]:
    lines = [
        f"{len(outcome.encoded)} of {len(outcome.plan.files)} files, {sum(outcome.decodes.values())} decodes, "
        f"**{len(outcome.mismatches)} mismatches**, {outcome.seconds:.0f} s."
    ]
    grey = outcome.thread_difference()
    if grey is not None:
        lines.append(
            f"Pictures of 1 and 2 threads in float32 differ by at most {grey} grey level(s), of {GREY_LEVELS} allowed."
        )
    elif outcome.plan.pictures:
        lines.append("Pictures of 1 and 2 threads were not both made, so they were not compared.")
    lines += [f"- Did not run: {failure}." for failure in outcome.failures]
    for number, receiver, what in outcome.mismatches[:SHOWN]:
        file = outcome.plan.files[number]
        lines.append(
            f"- File {number} ({file.width}x{file.height}, rate {file.rate}, {file.setting}) under {receiver}: {what}."
        )
    if len(outcome.mismatches) > SHOWN:
        lines.append(f"- {len(outcome.mismatches) - SHOWN} more.")
    return lines
