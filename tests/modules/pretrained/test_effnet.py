"""EfficientNet-Lite features: they recognise photographs, so weights and normalisation are right."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modules.pretrained import effnet
from modules.pretrained.effnet import EfficientNetFeatures, feature_distance

CATS = {281, 282, 285}  # ImageNet: tabby, tiger cat, Egyptian cat
CUPS = {504, 967, 968}  # ImageNet: coffee mug, espresso, cup


@pytest.fixture(scope="module")
def network() -> EfficientNetFeatures:
    return EfficientNetFeatures()


def photograph(name: str, side: int) -> torch.Tensor:
    from skimage import data

    image = torch.from_numpy(np.ascontiguousarray(getattr(data, name)())).permute(2, 0, 1)[None].float() / 255
    n = min(image.shape[2:])
    top, left = (image.shape[2] - n) // 2, (image.shape[3] - n) // 2
    image = image[:, :, top : top + n, left : left + n]
    return F.interpolate(image, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def test_recognises_photographs_only_with_its_normalisation(network, monkeypatch):
    for name, classes in (("chelsea", CATS), ("coffee", CUPS)):
        x = photograph(name, 224)
        probability = network.logits(x).softmax(1)[0]
        assert int(probability.argmax()) in classes
        assert sum(float(probability[c]) for c in classes) > 0.75
        with monkeypatch.context() as patch:
            patch.setattr(effnet, "_normalise", lambda v: v * 255)
            wrong = network.logits(x).softmax(1)[0]
        assert sum(float(wrong[c]) for c in classes) < 0.2


def test_frozen_and_differentiable(network):
    assert not list(network.parameters()) and not network.state_dict()
    assert not any(module.training for module in network.train().modules())
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    feature_distance(network(x), network(torch.rand(1, 3, 64, 64))).sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0 and torch.isfinite(x.grad).all()
