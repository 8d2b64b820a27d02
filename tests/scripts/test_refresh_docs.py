"""Documents whose figures are made by commands: those blocks change, and nothing else."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from refresh_docs import commands_of, refresh  # noqa: E402

TEXT = """# Title
<!-- run
echo first > trace; echo one
echo two; pwd
-->
old
<!-- end -->
between
<!-- run
false
-->
kept
<!-- end -->
"""


def call(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "refresh_docs.py"), *args]
    return subprocess.run(command, capture_output=True, text=True)


def test_blocks_are_found_and_replaced() -> None:
    assert commands_of(TEXT) == [["echo first > trace; echo one", "echo two; pwd"], ["false"]]
    changed = refresh(TEXT, 0, "| new |")
    assert changed == TEXT.replace("old", "| new |")
    assert refresh(changed, 1, "x\n\n") == changed.replace("kept", "x")


def test_the_last_commands_output_is_the_content_and_a_failure_changes_nothing(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text(TEXT.replace("echo first > trace; ", ""))
    done = call(str(document))
    assert done.returncode == 1 and "`false` ended with status 1" in done.stderr
    assert document.read_text() == TEXT.replace("echo first > trace; ", "").replace("old", f"two\n{ROOT}")


def test_fresh_deletes_the_evaluations_that_are_named_and_only_those(tmp_path: Path) -> None:
    for name in ("evaluation", "other", "pictures"):
        (tmp_path / name / "work").mkdir(parents=True)
        (tmp_path / name / "old").touch()
    for name in ("evaluation", "other"):
        (tmp_path / name / "work" / "settings.json").touch()
    out = tmp_path / "evaluation"
    again = f"mkdir -p {out}/work; touch {out}/work/settings.json; echo x >> {out}/made"
    block = (
        f"<!-- run\n{again} # --out {out}\n{again} # --out {out}\necho --out {tmp_path / 'pictures'}\n-->\n<!-- end -->"
    )
    document = tmp_path / "doc.md"
    document.write_text(block)
    assert call(str(document), "--list", "--fresh").returncode == 0 and (out / "old").exists()
    assert call(str(document)).returncode == 0 and (out / "old").exists()
    (out / "made").unlink()
    assert call(str(document), "--fresh").returncode == 0
    assert not (out / "old").exists() and (out / "made").read_text() == "x\nx\n"
    assert (tmp_path / "other" / "old").exists() and (tmp_path / "pictures" / "old").exists()


def test_the_projects_documents_have_commands() -> None:
    for name in ("docs/results.md", "README.md"):
        found = commands_of((ROOT / name).read_text())
        assert found, f"{name} has no block that a command made"
        scripts = {word for commands in found for line in commands for word in line.split() if word.endswith(".py")}
        assert scripts and all((ROOT / script).is_file() for script in scripts)
