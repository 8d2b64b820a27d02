"""Which variant is better? Trains variants of a preset under equal conditions and compares their curves on `val`.

    python scripts/study_variants.py fusion --data-root DIR --runs runs/studies --out docs/study_fusion.md
    python scripts/study_variants.py rate --data-root DIR --seeds 0 1 --list      # only the commands

The studies are in utils/studies/table.py. Each variant is trained by train.py and evaluated from true files by
evaluate.py, the commands that are printed. What is finished is not repeated, and Ctrl-C stops after saving: the same
command goes on. Prints a Markdown table with BD-rates; the exit status is 1 if a command failed, or if a variant needs
more bits than its study allows. Leave the machine alone meanwhile: seconds a step are compared.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import run
from utils.errors import ConfigError
from utils.outputs import refuse_overwriting
from utils.studies.plan import Place, Trial, trials, typed
from utils.studies.table import STUDIES, Study

if TYPE_CHECKING:
    from utils.studies.perform import Launch


def parse() -> argparse.Namespace:
    """The command line. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("study", choices=STUDIES, help="; ".join(f"{study.name}: {study.asks}" for study in STUDIES.values()))
    add("--runs", type=Path, default=Path("runs/studies"), metavar="DIR", help="of the runs (default: runs/studies)")
    add("--data-root", default="datasets/folder", metavar="DIR", help="data set `folder` (default: datasets/folder)")
    add("--variants", nargs="+", metavar="NAME", help="only these (default: all of the study)")
    add("--budgets", nargs="+", choices=("pairs", "seconds"), help="equal pairs, equal seconds (default: the study's)")
    add("--steps", type=int, metavar="N", help="of training under equal pairs (default: the study's)")
    add("--seeds", type=int, nargs="+", metavar="N", help="default: the study's")
    add("--limit", type=int, metavar="N", help="evaluate only the first N pairs of val")
    add("--list", action="store_true", help="print the commands and run nothing")
    add("--out", type=Path, metavar="FILE", help="Markdown file to write")
    add("--json", action="store_true", help="print the result as JSON in the last line")
    args = parser.parse_args()
    refuse_overwriting([args.out], [args.data_root])
    for name in ("steps", "limit"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ConfigError(f"--{name} is {value}; it must be at least 1.")
    study = STUDIES[args.study]
    args.steps = args.steps or study.steps
    args.seeds = args.seeds or list(study.seeds)
    args.budgets = list(study.budgets) if args.budgets is None else list(dict.fromkeys(args.budgets))
    for budget in args.budgets:
        if budget not in study.budgets:
            raise ConfigError(f"The study {study.name} compares under equal {' and '.join(study.budgets)} only.")
    return args


def show(study: Study, args: argparse.Namespace, place: Place) -> None:
    """Print the commands that are known before anything has run."""
    for budget in args.budgets:
        print(f"# equal {budget}")
        if budget == "seconds":
            print(f"# as above, with the steps that take as long as {args.steps} of {study.references[0]}")
            continue
        for trial in under_equal_pairs(study, args, place):
            for arguments in trial.training():
                print(typed("train.py", arguments))
            print(typed("evaluate.py", trial.evaluating()))


def under_equal_pairs(study: Study, args: argparse.Namespace, place: Place) -> list[Trial]:
    """Every variant for `--steps` steps, or the multiple of them that its row of the table says."""
    return trials(study, args.variants, args.seeds, {v.name: v.times * args.steps for v in study.variants}, place)


def under_equal_seconds(
    study: Study, args: argparse.Namespace, place: Place, first: list[Trial]
) -> tuple[list[Trial], list[str]]:
    """Every variant for as long as the baseline takes for `--steps`, and what hinders; `first`: of equal pairs."""
    from utils.studies.timing import equal_seconds, pinned

    runs: dict[str, list[Path]] = {}
    for trial in first:
        runs.setdefault(trial.variant.name, []).extend(trial.runs)
    pace = pinned(place.runs / study.name / "seconds_per_step.json", runs)
    missing = [f"{name} has no run under equal pairs to take its seconds a step from." for name in runs.keys() - pace]
    baseline = pace.get(study.references[0])
    if baseline is None:
        return [], sorted(missing)
    return trials(study, args.variants, args.seeds, equal_seconds(args.steps, baseline, pace), place), sorted(missing)


def main(launch: Launch | None = None) -> int:
    """See the module; the exit status. `launch` stands for the one that starts processes."""
    args = parse()
    study = STUDIES[args.study]
    place = Place(args.runs, args.data_root, args.limit)
    if args.list:
        show(study, args, place)
        return 0
    from utils.markdown import publish
    from utils.studies import perform, report

    done: list[Trial] = []
    rows: list[report.Row] = []
    failures: list[str] = []
    first = under_equal_pairs(study, args, place)
    for budget in args.budgets:
        if budget == "pairs":
            of_budget = first
        else:
            of_budget, hindered = under_equal_seconds(study, args, place, first)
            failures += hindered
        try:
            failures += filter(None, [perform.perform(trial, launch or perform.launch) for trial in of_budget])
        except perform.Stopped as stopped:
            print(stopped, file=sys.stderr)
            return stopped.status
        done += of_budget
        rows += report.rows_of(study, budget, of_budget)
    failures += report.judge(study, rows)
    lines = report.lines_of(study, done, rows, f"python {shlex.join(sys.argv)}")
    publish([*lines, *([""] * bool(failures)), *(f"**{failure}**" for failure in failures)], args.out)
    if args.json:
        print(json.dumps({"study": study.name, "rows": [row.as_json() for row in rows], "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
