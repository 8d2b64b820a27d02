"""Pretrained networks that measure but never learn."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

T = TypeVar("T", bound=nn.Module)


class FrozenModule(nn.Module):
    """A module that stays in evaluation mode, also when a parent's `.train()` reaches it."""

    def train(self, mode: bool = True) -> FrozenModule:
        """Ignores `mode`; returns self in evaluation mode."""
        return super().train(False)


def freeze(module: T) -> T:
    """Turns every parameter and buffer of `module` into a buffer outside its state_dict, and sets evaluation mode.

    Afterwards `module` still follows `.to(device)` and passes gradients to its input, but it has no parameters, so it
    can reach neither an optimizer nor a checkpoint, whatever owns it. Changes `module` in place and returns it.
    """
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach(), persistent=False)
        for name, buffer in list(part.named_buffers(recurse=False)):
            part.register_buffer(name, buffer, persistent=False)
    return module.eval()
