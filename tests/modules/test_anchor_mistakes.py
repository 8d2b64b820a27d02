"""The eleven mistakes found in released code of this family, and the tests here that fail when one is put back."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.images import to_float, to_uint8
from utils.training.validation import psnr

ROOT = Path(__file__).resolve().parents[2]

MISTAKES: dict[int, tuple[str, list[str]]] = {
    1: (
        "A clamp on the scale gives it a zero gradient at initialisation.",
        [
            "test_entropy::test_mistake_01_every_scale_has_a_gradient_at_initialisation",
            "test_entropy::test_mistake_01_a_scale_at_its_lower_bound_can_grow",
            "test_paper_codecs::test_a_scale_below_its_bound_can_still_grow",
        ],
    ),
    2: (
        "The time embedding is t/T in training and i/S in sampling.",
        [
            "test_sampler::test_mistake_02_the_network_is_told_the_noise_level_that_its_input_has",
            "test_sampler::test_mistake_02_few_steps_use_times_that_training_has_seen",
            "test_sampler::test_mistake_02_the_codec_trains_and_samples_with_one_time",
            "test_paper_sampling::test_the_unet_is_told_the_time_of_the_noise_that_it_sees",
        ],
    ),
    3: (
        "LPIPS in the wrong range, with dropout active, or saved in the checkpoint.",
        [
            "test_metrics_deep::test_lpips_is_the_package_on_minus_one_to_one",
            "test_metrics_deep::test_no_dropout_no_parameters_no_training_mode",
            "test_perceptual::test_lpips_loss_equals_the_package",
            "test_perceptual::test_never_trained_never_saved_never_in_training_mode",
            "test_checkpoint::test_mistake_03_the_perceptual_network_is_not_saved",
        ],
    ),
    4: (
        "Bits of signals that are never sent are in the rate term.",
        [
            "test_losses::test_mistake_04_the_rate_does_not_price_what_is_never_sent",
            "test_entropy::test_mistake_04_bits_are_those_of_y_and_z_and_of_nothing_else",
            "test_paper_codecs::test_bits_of_signals_that_are_never_sent_are_not_in_the_rate",
        ],
    ),
    5: (
        "Steps that are epochs, a counter that stands still, accumulation that does not, a rate that counts processes.",
        [
            "test_train::test_mistake_05_the_learning_rate_follows_optimizer_steps",
            "test_train::test_mistake_05_applied_learning_rates_are_those_of_the_steps",
            "test_train::test_mistake_05_samples_do_not_depend_on_processes_or_accumulation",
            "test_train::test_mistake_05_two_accumulated_halves_give_the_whole_batch_gradient",
            "test_two_processes::test_mistake_05_half_the_batch_each_gives_one_process_s_gradients",
        ],
    ),
    6: (
        "KITTI's validation scenes are its test scenes; pairs in both directions are taken for independent samples.",
        ["test_kitti::test_drive_disjoint_splits_share_no_scene", "test_kitti::test_counts_of_the_protocol"],
    ),
    7: (
        "A flip without swapping the views turns disparity around.",
        ["test_transforms::test_flip_keeps_the_sign_of_disparity", "test_transforms::test_flip_without_swap_would_not"],
    ),
    8: (
        "PSNR of the mean MSE here and mean of PSNRs there; floats measured, floored PNGs saved.",
        [
            "test_metrics::test_psnr_of_a_set_is_the_mean_of_psnrs_not_the_psnr_of_the_mean",
            "test_evaluate::test_every_figure_comes_from_the_files",
            "test_anchor_mistakes::test_mistake_08_images_are_rounded_to_nearest_and_then_measured",
        ],
    ),
    9: (
        "Sampler noise without a seed: the same file decodes to another image each time.",
        [
            "test_noise::test_mistake_09_sampler_noise_does_not_drift",
            "test_noise::test_mistake_09_the_same_seed_gives_the_same_noise",
            "test_codec::test_mistake_09_the_same_file_gives_the_same_image",
        ],
    ),
    10: (
        "MS-SSIM's standard window does not fit 128 rows: the window is 7 there, and is stated.",
        [
            "test_metrics::test_ms_ssim_window_and_decibels",
            "test_metrics::test_a_metric_that_no_image_has_is_unavailable_with_the_reason",
        ],
    ),
    11: (
        "strict=False and a bare except: a wrong checkpoint loads in silence.",
        [
            "test_checkpoint::test_mistake_11_a_wrong_checkpoint_never_loads_in_silence",
            "test_checkpoint::test_mistake_11_weights_of_another_architecture_are_refused",
            "test_anchor_mistakes::test_mistake_11_no_loader_is_lenient_and_no_except_is_bare",
        ],
    ),
}
"""Number in the list of anchors -> what it is, and "file::test" of each guard."""


def names_of_tests(name: str) -> set[str]:
    """Names of the test functions of tests/NAME.py."""
    tree = ast.parse(next((ROOT / "tests").rglob(f"{name}.py")).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test")}


@pytest.mark.parametrize("number", sorted(MISTAKES))
def test_each_mistake_has_its_tests(number: int) -> None:
    """A guard that is renamed or removed must be renamed here too, or replaced."""
    _, guards = MISTAKES[number]
    for guard in guards:
        file, name = guard.split("::")
        assert name in names_of_tests(file), f"mistake {number} has lost {guard}"


def test_all_eleven_are_listed() -> None:
    assert sorted(MISTAKES) == list(range(1, 12))


def test_mistake_08_images_are_rounded_to_nearest_and_then_measured() -> None:
    """Flooring would be half a grey level darker, and the float would be better than the image that is written."""
    values = torch.tensor([0.0, 0.499, 0.501, 100.4, 100.6, 254.6, 300.0, -3.0]) / 255
    image = values.view(1, 2, 4).expand(3, 2, 4)
    assert to_uint8(image)[:, :, 0].flatten().tolist() == [0, 0, 1, 100, 101, 255, 255, 0]
    stored = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (to_uint8(to_float(stored)) == stored).all()
    other = stored.copy()
    other[0, 0, 0] ^= 16
    assert psnr(stored, other) == pytest.approx(10 * np.log10(255**2 / (16**2 / stored.size)))


def sources() -> list[Path]:
    """Every Python file of the repository but its tests."""
    folders = [ROOT / name for name in ("modules", "data", "utils", "scripts")]
    return sorted([*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))])


def test_mistake_11_no_loader_is_lenient_and_no_except_is_bare() -> None:
    """load_state_dict(strict=False), `except:` and `except Exception: pass` are how wrong weights load in silence."""
    found = []
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text())):
            where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_state_dict":
                lenient = [
                    k for k in node.keywords if k.arg == "strict" and getattr(k.value, "value", None) is not True
                ]
                found += [where] * len(lenient)
            if isinstance(node, ast.ExceptHandler):
                names = {getattr(n, "id", "") for n in ast.walk(node.type)} if node.type else {"Exception"}
                raises = any(isinstance(n, ast.Raise) for n in ast.walk(node))
                found += [where] if names & {"Exception", "BaseException"} and not raises else []
    assert len(sources()) > 20 and not found
