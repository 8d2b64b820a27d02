"""train.precision auto: bfloat16 only where it is faster."""

from pathlib import Path
from unittest.mock import patch

import pytest
from trainers import config_on, trainer

import utils.training.precision
from utils.training.precision import bfloat16_instructions, resolve

X86 = "processor\t: 0\nflags\t\t: fpu avx2 avx512f {}\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86.format("avx512_bf16"), "bf16"),
        (X86.format("amx_tile amx_bf16"), "bf16"),
        ("vendor_id\t: GenuineIntel\n" + X86.format("avx512_bf16"), "no"),
        ("vendor_id\t: GenuineIntel\n" + X86.format("avx512_bf16 amx_bf16"), "bf16"),
        (ARM.format("bf16"), "bf16"),
        (X86.format("avx512_vnni"), "no"),
        (ARM.format("sha2"), "no"),
        ("model name\t: bf16\n", "no"),
        (None, "no"),
    ],
)
def test_auto_on_a_cpu_follows_its_instructions(text: str | None, expected: str, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    if text is not None:
        info.write_text(text)
    with patch.object(utils.training.precision, "CPU_INFO", info):
        assert resolve("auto", "cpu") == expected
        assert (bfloat16_instructions() != []) == (expected == "bf16")
        for fixed in ("no", "bf16", "fp16"):
            assert resolve(fixed, "cpu") == fixed


@pytest.mark.parametrize("native", [True, False])
def test_auto_on_a_gpu_asks_for_bfloat16_without_emulation(native: bool) -> None:
    with patch("torch.cuda.is_bf16_supported", return_value=native) as asked:
        assert resolve("auto", "cuda") == ("bf16" if native else "no")
    asked.assert_called_once_with(including_emulation=False)


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize(("instructions", "mode"), [(["bf16"], "bf16"), ([], "no")])
def test_training_computes_in_what_auto_found_and_says_so(instructions, mode, folder_data, tmp_path):
    config = config_on(folder_data, train={"precision": "auto", "steps": 1})
    with patch.object(utils.training.precision, "bfloat16_instructions", return_value=instructions):
        run = trainer(config, tmp_path)
    assert run.accelerator.mixed_precision == mode
    run.train()
    log = (run.run.path / "log.txt").read_text()
    assert f"on cpu in {'bf16' if instructions else 'float32'}" in log
