"""Weights are found where they should be, proved by their hash, and given up on within seconds."""

import hashlib
import http.server
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import stand_ins

from utils import weights
from utils.errors import WeightsError

CONTENT = b"the published weights" * 1000
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture()
def published(tmp_path, monkeypatch):
    """`alexnet` becomes a small file with a known hash; torch's cache is an empty folder."""
    spec = replace(weights.FILES["alexnet"], sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(weights.FILES, "alexnet", spec)
    monkeypatch.setattr(weights, "_unreachable", {})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    return spec


@pytest.fixture()
def server(published, monkeypatch):
    """A local server; set `.body` and `.pause` (seconds after each 1000 bytes)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.requests += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.body)))
            self.end_headers()
            for start in range(0, len(self.server.body), 1000):
                if self.server.closing:
                    return
                try:
                    self.wfile.write(self.server.body[start : start + 1000])
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(self.server.pause)

        def log_message(self, *args: object) -> None:
            pass

    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.body, httpd.pause, httpd.requests, httpd.closing = CONTENT, 0.0, 0, False
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{httpd.server_address[1]}/{published.file}"
    monkeypatch.setitem(weights.FILES, "alexnet", replace(published, url=url))
    yield httpd
    httpd.closing = True
    httpd.shutdown()
    httpd.server_close()


def test_searches_the_folder_then_its_hub_then_torchs_cache(published, tmp_path):
    hub = tmp_path / "torch_home" / "hub" / "checkpoints"
    given = tmp_path / "given"
    nested = given / "hub" / "checkpoints"
    for folder in (hub, nested):
        folder.mkdir(parents=True)
        (folder / published.file).write_bytes(CONTENT)
    assert weights.resolve("alexnet") == hub / published.file
    assert weights.resolve("alexnet", given) == nested / published.file
    (given / published.file).write_bytes(CONTENT)
    assert weights.resolve("alexnet", given) == given / published.file


def test_another_file_is_refused(published, tmp_path):
    (tmp_path / published.file).write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match=r"not the published.*fetch_weights"):
        weights.resolve("alexnet", tmp_path)
    assert weights.resolve("alexnet", tmp_path, allow_unverified=True) == tmp_path / published.file
    (tmp_path / published.file).write_bytes(CONTENT)  # replaced by the right one: checked again
    assert weights.resolve("alexnet", tmp_path) == tmp_path / published.file


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_a_stand_in_is_refused(name, tmp_path):
    stand_ins.trunk(name, tmp_path)
    with pytest.raises(WeightsError, match="not the published"):
        weights.resolve(name, tmp_path)


def test_download_is_verified_and_kept(server, tmp_path):
    path = weights.resolve("alexnet", tmp_path / "new")
    assert path.read_bytes() == CONTENT and path.parent == tmp_path / "new" / "hub" / "checkpoints"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    weights.resolve("alexnet", tmp_path / "new")
    assert server.requests == 1


def test_a_wrong_or_short_download_leaves_nothing(server, tmp_path):
    for body in (b"<html>please log in</html>", CONTENT[:-1]):
        server.body = body
        with pytest.raises(WeightsError, match="something other"):
            weights.resolve("alexnet", tmp_path / "new")
        assert not list((tmp_path / "new" / "hub" / "checkpoints").iterdir())


def test_a_trickle_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT_S", 0.3)
    server.pause = 0.1
    server.body = CONTENT * 100
    start = time.monotonic()
    with pytest.raises(WeightsError, match="kB/s"):
        weights.resolve("alexnet", tmp_path)
    assert time.monotonic() - start < 5


def test_a_network_that_never_answers_is_asked_once_and_given_up(published, tmp_path, monkeypatch):
    calls = []

    def hang(url: str, timeout: float) -> None:
        calls.append(url)
        time.sleep(3)

    monkeypatch.setattr("urllib.request.urlopen", hang)
    monkeypatch.setattr(weights, "TIMEOUT_S", 0.2)
    start = time.monotonic()
    for name in ("alexnet", "vgg16"):  # one host
        with pytest.raises(WeightsError, match=r"no answer.*--weights-dir DIR"):
            weights.resolve(name, tmp_path)
    assert time.monotonic() - start < 2
    assert len(calls) == 1


def test_downloads_can_be_switched_off(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHT_DOWNLOADS", "0")
    with pytest.raises(WeightsError, match="switched off"):
        weights.resolve("alexnet", tmp_path)
    assert server.requests == 0


def test_carried_weights_are_checked_too(monkeypatch):
    spec = weights.FILES["efficientnet_lite2"]
    assert weights.resolve("efficientnet_lite2").name == spec.file
    monkeypatch.setitem(weights.FILES, "efficientnet_lite2", replace(spec, sha256="0" * 64))
    with pytest.raises(WeightsError, match="not the published"):
        weights.resolve("efficientnet_lite2")


def test_fetch_weights_script(tmp_path):
    script = [sys.executable, str(ROOT / "scripts" / "fetch_weights.py")]
    shown = subprocess.run([*script, "--help"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and "--weights-dir" in shown.stdout
    checked = subprocess.run([*script, str(tmp_path), "--check"], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 1
    assert checked.stderr.count("\n") == 1 and "3 file(s)" in checked.stderr and "vgg16" in checked.stderr
    assert checked.stdout.count("SHA-256 right") == 2  # the two that packages carry
