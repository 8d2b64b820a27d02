"""docs/reliability.md: short, and every command and test that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()


def test_commands_and_tests_are_there() -> None:
    run = set(re.findall(r"(?:python|bash|pytest|nproc_per_node 2) ([\w/.-]+\.(?:py|sh))", TEXT))
    assert len(run) >= 5 and not [path for path in run if not (ROOT / path).is_file()]
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert not re.findall(r"@\w+@", TEXT), "a row waits for its figures"
    named = set(re.findall(r"\btest_\w+\.py", TEXT))
    assert len(named) >= 10 and named <= tests
