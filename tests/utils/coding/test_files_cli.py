"""scripts/compress.py and scripts/decompress.py: real files, and one line on stderr with status 1 for bad ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluation_files import write_checkpoint, write_untrained
from image_files import encode, mpo, png16, write
from PIL import Image
from script_files import one_line
from tiny import smooth_pair

from config import Config
from data.images import read_image
from modules.codec import Codec
from utils.checkpoint import load_checkpoint
from utils.training.validation import to_float, to_uint8


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory, tiny: Config, tiny_codec: Codec) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("ckpt"), tiny_codec, tiny)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """left.png and right.png, 67x50."""
    folder = tmp_path_factory.mktemp("views")
    left, right = (encode(to_uint8(image)) for image in smooth_pair(50, 67, 5))
    return write(folder / "left.png", left), write(folder / "right.png", right)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory, ckpt: Path, views: tuple[Path, Path]) -> Path:
    codec = load_checkpoint(ckpt).codec
    return write(tmp_path_factory.mktemp("stream") / "left.bin", codec.compress(to_float(read_image(views[0])), 0.5))


def test_round_trip(command, ckpt: Path, views: tuple[Path, Path], stream: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "left.bin", tmp_path / "decoded.png"
    status, printed, err = command("compress", views[0], file, "--ckpt", ckpt, "--rate", 0.5)
    assert status == 0 and not err
    assert file.read_bytes() == stream.read_bytes()
    assert f"{file.stat().st_size} bytes for 67x50, {8 * file.stat().st_size / (50 * 67):.4f} bpp" in printed
    status, _, err = command("decompress", file, out, "--side", views[1], "--ckpt", ckpt)
    assert status == 0 and not err
    codec = load_checkpoint(ckpt).codec
    expected = to_uint8(codec.decompress(stream.read_bytes(), to_float(read_image(views[1]))))
    with Image.open(out) as picture:
        assert picture.format == "PNG" and np.array_equal(np.array(picture), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoded.png", "left.bin"]


def test_steps_gamma_and_a_missing_side_image(command, ckpt, views, stream, tmp_path):
    pictures = {}
    for name, arguments in {
        "plain": ["--side", views[1]],
        "noisy": ["--side", views[1], "--gamma", 1],
        "steps": ["--side", views[1], "--gamma", 1, "--steps", 3],
        "without": [],
    }.items():
        out = tmp_path / f"{name}.png"
        status, printed, err = command("decompress", stream, out, "--ckpt", ckpt, *arguments)
        assert status == 0 and not err
        assert ("without a side image" in printed) == (name == "without")
        pictures[name] = out.read_bytes()
    assert len(set(pictures.values())) == 4


def test_an_mpo_is_both_inputs_and_gray_is_said_in_one_line(command, ckpt, tmp_path, caplog):
    views = [to_uint8(view) for view in smooth_pair(50, 67, 5)]
    pair, file, out = write(tmp_path / "pair.mpo", mpo(*views)), tmp_path / "pair.bin", tmp_path / "decoded.png"
    assert command("compress", pair, file, "--ckpt", ckpt, "--rate", 0.5)[0] == 0
    assert command("decompress", file, out, "--side", pair, "--ckpt", ckpt)[0] == 0
    codec = load_checkpoint(ckpt).codec
    expected = codec.decompress(file.read_bytes(), to_float(read_image(pair, side=True)))
    np.testing.assert_array_equal(read_image(out), to_uint8(expected))
    assert not caplog.records

    gray = write(tmp_path / "gray.png", encode(views[0][..., 0].copy()))
    assert command("compress", gray, file, "--ckpt", ckpt, "--rate", 0.5)[0] == 0
    assert [r.getMessage() for r in caplog.records] == [f"{gray}: grayscale, read as three equal channels."]

    preview = write(tmp_path / "phone.mpo", mpo(views[0], views[1][:20, :30].copy()))
    assert command("compress", preview, file, "--ckpt", ckpt, "--rate", 0.5)[0] == 0
    assert "is no stereo pair" in one_line(command("decompress", file, out, "--side", preview, "--ckpt", ckpt))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in the header": lambda data: data[:4],
    "cut in the payload": lambda data: data[:-3],
    "a flipped bit": lambda data: data[:-2] + bytes([data[-2] ^ 16]) + data[-1:],
    "a PNG": lambda data: encode(np.zeros((20, 20, 3), np.uint8)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_bad_files_are_one_line(command, ckpt, views, stream, tmp_path, kind):
    bad = write(tmp_path / "bad.bin", DAMAGE[kind](stream.read_bytes()))
    message = one_line(command("decompress", bad, tmp_path / "out.png", "--side", views[1], "--ckpt", ckpt))
    assert "bad.bin" in message
    assert not (tmp_path / "out.png").exists()


def test_arguments_of_decompress(command, tiny, ckpt, views, stream, tmp_path):
    small = write(tmp_path / "small.png", encode(np.zeros((40, 40, 3), np.uint8)))
    out = tmp_path / "out.png"
    side = ["--side", views[1], "--ckpt", ckpt]
    for arguments, part in (
        ([stream, out, "--side", small, "--ckpt", ckpt], "40x40"),
        ([stream, out, "--side", tmp_path / "none.png", "--ckpt", ckpt], "none.png"),
        ([tmp_path / "none.bin", out, *side], "none.bin"),
        ([tmp_path, out, *side], "cannot be read"),
        ([stream, tmp_path / "out.jpg", *side], ".png"),
        ([stream, tmp_path / "absent" / "out.png", *side], "cannot be written"),
        ([stream, out, *side, "--steps", 0], "--steps"),
        ([stream, out, *side, "--gamma", 1.5], "--gamma"),
        ([stream, out, "--side", views[1], "--ckpt", tmp_path / "none"], "no checkpoint"),
    ):
        assert part in one_line(command("decompress", *arguments)), part
    strict = write_untrained(tmp_path / "strict", tiny, side_dropout=0.0)
    assert "--side is missing" in one_line(command("decompress", stream, out, "--ckpt", strict))


def test_arguments_of_compress(command, tiny, ckpt, views, tmp_path):
    out = tmp_path / "out.bin"
    deep = write(tmp_path / "deep.png", png16())
    torn = write(tmp_path / "torn.png", views[0].read_bytes()[:200])
    tiny_image = write(tmp_path / "tiny.png", encode(np.zeros((8, 40, 3), np.uint8)))
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (40, 40)).save(clear)
    rate = ["--ckpt", ckpt, "--rate", 0.5]
    for arguments, part in (
        ([deep, out, *rate], "16 bits"),
        ([torn, out, *rate], "torn.png"),
        ([tiny_image, out, *rate], "at least 16"),
        ([clear, out, *rate], "transparent"),
        ([tmp_path / "none.png", out, *rate], "none.png"),
        ([views[0], tmp_path / "absent" / "out.bin", *rate], "cannot be written"),
        ([views[0], out, "--ckpt", ckpt], "--rate is missing"),
        ([views[0], out, "--ckpt", ckpt, "--rate", 1.01], "--rate is 1.01"),
        ([views[0], out, "--ckpt", ckpt, "--rate", "nan"], "--rate is nan"),
    ):
        assert part in one_line(command("compress", *arguments)), part
    fixed = write_untrained(tmp_path / "fixed", tiny, variable_rate=False)
    assert "fixed-rate" in one_line(command("compress", views[0], out, "--ckpt", fixed, "--rate", 0.5))
    assert command("compress", views[0], out, *rate, "--side", views[1])[0] == 2  # The encoder takes no side image.
    assert not out.exists()
    status, _, _ = command("compress", views[0], out, "--ckpt", fixed)
    assert status == 0 and out.stat().st_size > 8


def test_a_budget_instead_of_a_rate(command, ckpt: Path, views: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.bin"
    rates = [len(load_checkpoint(ckpt).codec.compress(to_float(read_image(views[0])), rate)) for rate in (0.0, 1.0)]
    middle = sum(rates) // 2
    for option, value in (("--bytes", middle), ("--bpp", 8 * (middle + 0.5) / (50 * 67))):
        status, printed, err = command("compress", views[0], out, "--ckpt", ckpt, option, value)
        assert status == 0 and not err and "rate level" in printed
        assert rates[0] <= out.stat().st_size <= middle
    out.unlink()
    for arguments, part in (
        (["--bytes", 9], f"the smallest has {rates[0]}"),
        (["--bytes", 0], "--bytes is 0"),
        (["--bpp", "nan"], "--bpp is nan"),
        (["--bpp", -1], "--bpp is -1"),
        (["--rate", 0.5, "--workers", 2], "--workers is for folders"),
    ):
        assert part in one_line(command("compress", views[0], out, "--ckpt", ckpt, *arguments)), part
    assert not out.exists()


def test_images_beyond_max_pixels_are_refused(command, ckpt, views, stream, tmp_path):
    out, side = tmp_path / "out.png", ["--side", views[1], "--ckpt", ckpt]
    message = one_line(command("decompress", stream, out, *side, "--max-pixels", 50 * 67 - 1))
    assert "left.bin: The file claims an image of 67x50" in message and "--max-pixels" in message
    assert "--max-pixels is 1" in one_line(command("decompress", stream, out, *side, "--max-pixels", 1))
    assert not out.exists()
    assert command("decompress", stream, out, *side, "--max-pixels", 50 * 67)[0] == 0
