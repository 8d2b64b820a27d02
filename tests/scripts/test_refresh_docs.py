"""Documents whose figures are made by commands: those blocks change, and nothing else."""

from processes import ROOT
from script_files import load_script

TEXT = """# Title
<!-- run
echo one
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
documents = load_script("refresh_docs")


def test_the_last_commands_output_is_the_content_and_a_failure_changes_nothing(command, tmp_path):
    document = tmp_path / "doc.md"
    document.write_text(TEXT)
    assert command("refresh_docs", document, "--list")[0] == 0 and document.read_text() == TEXT
    status, _, err = command("refresh_docs", document)
    assert status == 1 and "`false` ended with status 1" in err
    assert document.read_text() == TEXT.replace("old", f"two\n{ROOT}")


def test_fresh_deletes_the_evaluations_that_are_named_and_only_those(command, tmp_path):
    for name in ("evaluation", "other", "pictures"):
        (tmp_path / name / "work").mkdir(parents=True)
        (tmp_path / name / "old").touch()
    for name in ("evaluation", "other"):
        (tmp_path / name / "work" / "settings.json").touch()
    out, document = tmp_path / "evaluation", tmp_path / "doc.md"
    again = f"mkdir -p {out}/work; touch {out}/work/settings.json; echo x >> {out}/made # --out {out}"
    document.write_text(f"<!-- run\n{again}\n{again}\necho --out {tmp_path / 'pictures'}\n-->\n<!-- end -->")
    assert command("refresh_docs", document)[0] == 0 and (out / "old").exists()
    (out / "made").unlink()
    assert command("refresh_docs", document, "--fresh")[0] == 0
    assert not (out / "old").exists() and (out / "made").read_text() == "x\nx\n"
    assert (tmp_path / "other" / "old").exists() and (tmp_path / "pictures" / "old").exists()


def test_the_projects_documents_have_commands():
    for name in ("docs/results.md", "README.md"):
        found = documents.commands_of((ROOT / name).read_text())
        scripts = {word for commands in found for line in commands for word in line.split() if word.endswith(".py")}
        assert scripts and all((ROOT / script).is_file() for script in scripts), name
