"""Copy a run's best checkpoint to a folder for release: the data root in it becomes portable.

Nothing else changes, but for the gamma that decoding uses unless the receiver chooses, where `--gamma` gives one.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import MixConfig
from utils.cli import Parser, run

LIMIT_MIB = 24


def _without_places(parts: tuple[MixConfig, ...]) -> tuple[MixConfig, ...]:
    """Sets of pictures whose roots name no folder of this machine."""
    return tuple(
        dataclasses.replace(part, root=Path(part.root).name) if Path(part.root).is_absolute() else part
        for part in parts
    )


def main() -> None:
    """See the module."""
    parser = Parser(__doc__)
    parser.add_argument("--ckpt", required=True, metavar="PATH", help="run folder, checkpoint folder or file")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="for example checkpoints/small")
    parser.add_argument("--gamma", type=float, metavar="G", help="default for decoding, 0 to 1 (default: the run's)")
    args = parser.parse_args()

    from config import DataConfig
    from utils.checkpoint import MODEL_FILE, find_model_file, load_checkpoint, save_checkpoint
    from utils.configrules import check_codec
    from utils.errors import CheckpointError, ConfigError
    from utils.files import replacing
    from utils.outputs import refuse_overwriting

    if args.gamma is not None and not 0 <= args.gamma <= 1:
        raise ConfigError(f"--gamma is {args.gamma:g}; it lies in 0 (mean-like) to 1 (realistic).")
    target = args.out / MODEL_FILE
    refuse_overwriting([target], [find_model_file(args.ckpt)])
    loaded = load_checkpoint(args.ckpt)
    portable = DataConfig()
    data = dataclasses.replace(
        loaded.config.data,
        root=portable.root,
        kitti_root=portable.kitti_root,
        cityscapes_root=portable.cityscapes_root,
        folder_root=portable.folder_root,
        mix=_without_places(loaded.config.data.mix),
        val=_without_places(loaded.config.data.val),
    )
    config = dataclasses.replace(loaded.config, data=data)
    if args.gamma is not None:
        config = dataclasses.replace(config, diffusion=dataclasses.replace(config.diffusion, gamma=args.gamma))
        check_codec(config)
    with replacing(target) as candidate:
        save_checkpoint(candidate, loaded.codec, config, loaded.step)
        mebibytes = candidate.stat().st_size / 2**20
        if mebibytes > LIMIT_MIB:
            raise CheckpointError(
                f"The checkpoint has {mebibytes:.1f} MiB, more than the {LIMIT_MIB} MiB that a release may have; "
                f"{target} is as it was."
            )
    print(f"{target}: step {loaded.step}, {mebibytes:.1f} MiB, model tag {loaded.codec.entropy.identity()[:2].hex()}")


if __name__ == "__main__":
    run(main)
