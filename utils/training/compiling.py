"""torch.compile of a codec's networks, in place."""

from __future__ import annotations

from modules.codec import Codec


def compile_networks(codec: Codec, *, fullgraph: bool = False, dynamic: bool | None = None) -> None:
    """Compile every network of both halves when it is first called; the entropy coder is no work of torch."""
    for network in (*(child for child in codec.children() if child is not codec.entropy), codec.entropy.h_a):
        network.compile(fullgraph=fullgraph, dynamic=dynamic)
