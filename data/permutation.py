"""Random permutations of any length that need no memory: the place of one element costs microseconds."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_ROUNDS = 6


def mix(*values: int) -> int:
    """A 64-bit hash of integers, the same on every machine (splitmix64's finaliser, chained)."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state ^ (value & _MASK)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state = (state + 0x9E3779B97F4A7C15 ^ (state >> 31)) & _MASK
    return state


def permute(position: int, length: int, key: int) -> int:
    """Element at `position` of the permutation of range(length) that `key` (64 bits) names.

    A Feistel network over the next larger power of four, walked until it falls inside the range. Raises ValueError
    unless 0 <= position < length.
    """
    if not 0 <= position < length:
        raise ValueError(f"position {position} must lie in [0, {length})")
    half = max(3, ((length - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = position >> half, position & low
        for round_number in range(_ROUNDS):
            left, right = right, left ^ (mix(key, round_number, right) >> 20 & low)
        position = (left << half) | right
        if position < length:
            return position
