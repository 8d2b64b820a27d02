"""Values computed from tensors and kept until one of the tensors changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Derived(Generic[T]):
    """A cache of one value. It is computed again once a tensor was replaced or changed in place.

    PyTorch counts a tensor's changes in `_version`; writes through `.data` or a NumPy view escape the count, so they
    are not for tensors that something is derived from. Tensors made under `torch.inference_mode` have no count, and
    the graphs of `torch.compile` cannot read it: nothing is kept for either.
    """

    def __init__(self) -> None:
        self._value: T | None = None
        self._tensors: list[Tensor] = []  # Held, so that no other tensor can take their place in memory.
        self._versions: list[int] = []

    def get(self, tensors: Sequence[Tensor], compute: Callable[[], T]) -> T:
        """What `compute` gives, which must depend on `tensors` alone. If it raises, nothing is kept."""
        if torch.compiler.is_compiling() or any(tensor.is_inference() for tensor in tensors):
            return compute()
        versions = [tensor._version for tensor in tensors]
        same = len(tensors) == len(self._tensors) and all(
            own is other for own, other in zip(self._tensors, tensors, strict=True)
        )
        if self._value is None or not same or versions != self._versions:
            self._value = None
            self._value = compute()
            self._tensors, self._versions = list(tensors), versions
        return self._value

    def __reduce__(self) -> tuple[type[Derived[T]], tuple[()]]:
        """Copied or pickled it is empty: a copied module has tensors of its own."""
        return Derived, ()
