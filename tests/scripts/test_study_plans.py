"""Plans of the studies: variants that differ in what is asked and in nothing else, as train.py reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.configio import parse_command_line
from utils.configrules import differences
from utils.studies.perform import configuration
from utils.studies.plan import Place, trials
from utils.studies.table import STUDIES


@pytest.mark.parametrize(
    ("name", "may_differ", "count"),
    [
        ("fusion", {"model.fusion", "model.side_channels"}, 6),
        ("rate", {"model.variable_rate", "model.mean_before_gain", "loss.lmbda", "loss.lambda_max", "name"}, 7),
        ("trained_rate", {"loss.rates", "name"}, 6),
    ],
)
def test_variants_differ_in_what_is_asked_and_in_nothing_else(name: str, may_differ: set[str], count: int) -> None:
    """And train.py takes every field."""
    of_study = STUDIES[name]
    steps = {variant.name: 1200 for variant in of_study.variants}
    planned = trials(of_study, None, [7], steps, Place(Path("runs"), "data"))
    configs = [configuration(arguments) for trial in planned for arguments in trial.training()]
    found = {field for config in configs for field in differences(configs[0], config)}
    assert found == may_differ
    assert len({str(run) for trial in planned for run in trial.runs}) == len(configs) == count
    for config in configs:
        assert (config.train.seed, config.train.steps, config.train.decay) == (7, 1200, 960)
        assert config.data.folder_root == "data" and (0 < config.loss.rate_warmup < 300) == (not of_study.init)
        assert config.diffusion.denoise_fraction == 0 and config.loss.perceptual == "none"


def test_single_rates_are_levels_of_the_variable_one() -> None:
    single, variable, all_pairs, _ = STUDIES["rate"].variants
    config = configuration(trials(STUDIES["rate"], None, [0], {variable.name: 9}, Place(Path(), ""))[0].training()[0])
    assert config.model.variable_rate and len(single.lambdas) == len(STUDIES["rate"].rates) == 4
    for value, rate in zip(single.lambdas, STUDIES["rate"].rates, strict=True):
        assert value == pytest.approx(0.0001 * 200**rate) and 255 * rate == pytest.approx(round(255 * rate))
    assert (config.loss.lambda_min, config.loss.lambda_max) == (single.lambdas[0], single.lambdas[-1])
    assert all_pairs.times == len(single.lambdas)


def test_a_study_may_start_from_a_checkpoint_and_train_a_copy_for_each_rate() -> None:
    of_study = STUDIES["trained_rate"]
    steps = {variant.name: 100 for variant in of_study.variants}
    single, variable, _ = trials(of_study, None, [0], steps, Place(Path("runs"), "data"))
    for arguments in [*single.training(), *variable.training()]:
        config, switches = parse_command_line(arguments)
        assert switches.init == of_study.init and config.loss.rate_warmup == 0
    levels = [round(255 * rate) for rate in of_study.rates]
    trained = [configuration(arguments).loss.rates for arguments in single.training()]
    assert [(round(255 * low), round(255 * high)) for low, high in trained] == [(level, level) for level in levels]
    assert "--rates" not in single.evaluating() and "--rates" in variable.evaluating()
    assert len(single.runs) == len(set(single.runs)) == 4 and configuration(variable.training()[0]).loss.rates == (0, 1)
