"""Derived values: kept while their tensors are the same, computed again after any change."""

import torch
from torch import Tensor, nn

from modules.derived import Derived


class Total(nn.Module):
    """Counts how often its sum is computed."""

    numbers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.arange(4))
        self.cache: Derived[int] = Derived()
        self.computed = 0

    def compute(self) -> int:
        self.computed += 1
        return int(self.numbers.sum())

    def get(self) -> int:
        return self.cache.get([self.numbers], self.compute)


def test_every_change_of_a_tensor_is_noticed() -> None:
    total = Total()
    assert total.get() == 6
    total.numbers[0] += 1
    assert total.get() == 7
    total.numbers.view(-1)[1:].zero_()
    assert total.get() == 1
    with torch.no_grad():
        total.numbers.copy_(torch.ones(4))
    assert total.get() == 4
    total.state_dict()["numbers"].fill_(2)
    assert total.get() == 8
    total.load_state_dict({"numbers": torch.arange(4)})
    assert total.get() == 6
    total.numbers = torch.full((4,), 3)
    assert total.get() == 12
    before = total.computed
    total._apply(torch.clone)  # What moving a module to a device does.
    assert total.get() == 12 and total.computed == before + 1
    with torch.inference_mode():
        total.numbers += 1
    assert total.get() == 16


def test_compiled_graphs_compute_it_themselves() -> None:
    """A graph that had kept the value would not see the tensor change."""
    numbers, cache = torch.arange(4), Derived[Tensor]()
    compiled = torch.compile(lambda: cache.get([numbers], numbers.sum) + 1, backend="eager", fullgraph=True)
    assert int(compiled()) == 7
    numbers[0] = 10
    assert int(compiled()) == 17
