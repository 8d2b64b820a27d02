"""A make-believe accelerator without float64, as Apple's MPS is one, on any machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("meta")


class OnDevice(torch.Tensor):
    """A tensor that claims to lie on DEVICE; its values lie in `held`, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        if held.dtype == torch.float64:
            raise TypeError("This device has no float64.")
        tensor: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE
        )
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _on_device(func, args, kwargs or {})


class Float32Device(TorchDispatchMode):
    """While it is on, tensors can be made on DEVICE and sent there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(kind, OnDevice) for kind in types) or kwargs.get("device") == DEVICE:
            return _on_device(func, args, kwargs)
        return func(*args, **kwargs)


def _on_device(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.__name__.split(".")[0]
    given: list[Tensor] = []
    tree_map(lambda leaf: given.append(leaf) if isinstance(leaf, Tensor) else None, (args, kwargs))
    if name not in ("copy_", "_to_copy") and any(t.ndim and not isinstance(t, OnDevice) for t in given):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device.")
    back = name == "_local_scalar_dense" or kwargs.get("device") == torch.device("cpu")
    if "device" in kwargs:
        kwargs = kwargs | {"device": torch.device("cpu")}
    held = tree_map(lambda leaf: leaf.held if isinstance(leaf, OnDevice) else leaf, (args, kwargs))
    out = func(*held[0], **held[1])
    if name.endswith("_") and not name.startswith("_"):
        return args[0]
    return out if back else tree_map(lambda leaf: OnDevice(leaf) if isinstance(leaf, Tensor) else leaf, out)
