"""What --tile-rows promises: no network sees more rows than a strip, on both sides of a file."""

import pytest
import torch
from torch import nn

from modules.codec import Codec
from utils.coding.limits import set_tile_rows


@pytest.mark.parametrize(("tile_rows", "most"), [(None, 768), (192, 192)])
def test_networks_see_at_most_a_strip(own_codec: Codec, tile_rows: int | None, most: int) -> None:
    x = torch.rand(3, 768, 64, generator=torch.Generator().manual_seed(0))
    seen: dict[str, int] = {}

    def note(name: str, stride: int) -> None:
        def hook(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            seen[name] = max(seen.get(name, 0), stride * given[0].shape[2])

        own_codec.get_submodule(name).register_forward_pre_hook(hook)

    for name, stride in (("g_a", 1), ("e_side", 1), ("g_s", 16), ("unet", 1)):
        note(name, stride)
    set_tile_rows(own_codec, tile_rows)
    own_codec.decompress(own_codec.compress(x, 0.5), x, gamma=1.0)
    assert seen == dict.fromkeys(("g_a", "e_side", "g_s", "unet"), most)
