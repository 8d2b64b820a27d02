"""Prepare a folder with the pretrained weights of LPIPS, DISTS, FID and KID, for machines without a network.

    python scripts/fetch_weights.py DIR            # where there is a network: 0.9 GB
    python evaluate.py ... --weights-dir DIR       # anywhere; TORCH_HOME=DIR does the same

Files go to DIR/hub/checkpoints under the names that the libraries expect. Each is compared with its published SHA-256.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import Parser, run


def main() -> None:
    """Fetches and checks; raises WeightsError, after trying all of them, if a file cannot be had."""
    from utils.errors import WeightsError
    from utils.weights import FILES, fetch, is_published, resolve

    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder to prepare; made if missing")
    names = [name for name, spec in FILES.items() if not spec.package]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {names}")
    parser.add_argument("--check", action="store_true", help="only check what is there; download nothing")
    arguments = parser.parse_args()

    store = arguments.folder / "hub" / "checkpoints"
    failures = []
    for name in arguments.only:
        spec = FILES[name]
        path = store / spec.file
        try:
            if path.is_file() and is_published(name, path):
                print(f"{path}: there, SHA-256 right ({spec.purpose})")
            elif arguments.check:
                raise WeightsError(f"{path} is {'another file' if path.is_file() else 'missing'}")
            else:
                print(f"{path}: downloading {spec.url} ...", flush=True)
                fetch(name, store, min_bytes_per_s=1)
                print(f"{path}: downloaded, SHA-256 right ({spec.purpose})")
        except WeightsError as error:
            failures.append(str(error))
    for name in (name for name, spec in FILES.items() if spec.package):
        try:
            print(f"{resolve(name)}: comes with a package, SHA-256 right ({FILES[name].purpose})")
        except WeightsError as error:
            failures.append(str(error))
    if failures:
        raise WeightsError(f"{len(failures)} file(s) cannot be had: {'; '.join(failures)}.")


if __name__ == "__main__":
    run(main)
