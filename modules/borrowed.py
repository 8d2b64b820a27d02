"""What is taken from CompressAI. Its import warns of what torch deprecates, which no user can act on: not a word."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    from compressai.entropy_models import EntropyBottleneck
    from compressai.ops import LowerBound
    from compressai.ops.bound_ops import LowerBoundFunction

__all__ = ["EntropyBottleneck", "LowerBound", "LowerBoundFunction"]
