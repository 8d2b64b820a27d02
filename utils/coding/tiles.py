"""The option --tile-rows: how many rows of an image the networks see at a time, less memory for some more time."""

from __future__ import annotations

from modules.codec import Codec
from modules.diffusion_codec import DiffusionCodec
from modules.tiling import LEAST_ROWS, OVERLAP
from utils.errors import ConfigError


def set_tile_rows(codec: Codec, rows: int | None) -> None:
    """Have `codec` work in strips of at most `rows` rows; None leaves it its own number.

    Raises ConfigError for fewer than strips can have, and for codecs that take images whole.
    """
    if rows is None:
        return
    if rows < LEAST_ROWS:
        raise ConfigError(
            f"--tile-rows is {rows}; strips need at least {LEAST_ROWS} rows, of which they share {OVERLAP}."
        )
    if not isinstance(codec, DiffusionCodec):
        raise ConfigError(f"--tile-rows does not apply: the codec {codec.name} takes images whole; leave it out.")
    codec.tile_rows = rows
