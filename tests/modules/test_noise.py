"""Keyed random numbers: the sampler's noise is part of the file format, the training's depends on the sample alone."""

import hashlib

import numpy as np
import torch

from modules.noise import Draws, payload_seed, sampler_noise


def test_mistake_09_sampler_noise_does_not_drift() -> None:
    """Files must decode to the same image for ever: these numbers are part of the format."""
    raw = [16086915834549238692, 5448529601018347655, 7749434361382612120]
    assert [int(value) for value in np.random.Philox(key=7).random_raw(3)] == raw
    golden = {
        7: [-0.43347183, 1.35492194, -0.43338719, 0.29302803, 0.77670509, -1.24366856],
        2**64 - 1: [-0.35933807, -0.47981292, 0.10786429, -1.66364443, 0.65899307, -1.32884407],
    }
    for seed, values in golden.items():
        torch.testing.assert_close(sampler_noise(seed, (1, 2, 3)).flatten(), torch.tensor(values), rtol=0, atol=1e-6)


def test_mistake_09_the_same_seed_gives_the_same_noise() -> None:
    """Whatever was drawn before, and whatever torch's and NumPy's own generators are at."""
    first = sampler_noise(123, (3, 32, 48))
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.rand(10)
    assert torch.equal(sampler_noise(123, (3, 32, 48)), first)
    assert not torch.equal(sampler_noise(124, (3, 32, 48)), first)


def test_the_seed_of_a_file_is_its_payloads_digest() -> None:
    for payload in (b"", b"abc"):
        assert payload_seed(payload) == int.from_bytes(hashlib.sha256(payload).digest()[:8], "little")


def test_draws_of_a_sample_do_not_depend_on_the_batch_it_is_in() -> None:
    """Two processes with half the batch each draw what one draws for the whole."""
    keys = [Draws.key(3, sample) for sample in range(4)]
    whole = Draws(keys)
    for part in (keys[:2], keys[2:], keys[3:]):
        first = keys.index(part[0])
        draws = Draws(part)
        for name, shape in (("rate", ()), ("y", (5, 2, 2))):
            assert torch.equal(draws.uniform(name, shape), whole.uniform(name, shape)[first : first + len(part)])
            assert torch.equal(draws.normal(name, shape), whole.normal(name, shape)[first : first + len(part)])


def test_draws_differ_by_seed_sample_and_name() -> None:
    values = {
        float(Draws([Draws.key(seed, sample)]).uniform(name))
        for seed in range(3)
        for sample in range(20)
        for name in ("t", "gamma", "rate")
    }
    assert len(values) == 3 * 20 * 3


def test_uniforms_are_uniform() -> None:
    draws = Draws([Draws.key(0, i) for i in range(3000)])
    values = draws.uniform("rate")
    assert values.min() >= 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 0.02 and abs(values.std() - 12**-0.5) < 0.01
    assert (values * 256).long().max() <= 255
