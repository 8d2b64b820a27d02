"""Make the figures of a document again: python scripts/refresh_docs.py docs/results.md [README.md ...]

A block of a document that was made by commands looks like this, and only such blocks change:

    <!-- run
    python evaluate.py --ckpt checkpoints/small --split test --out results/test
    python scripts/results_table.py results/test/summary.json
    -->
    what the last command printed
    <!-- end -->

The commands are run one after the other from the repository's root. Evaluations that are complete are not repeated, and
those made by another version of the code are refused: `--fresh` deletes them first, and all are measured anew. If a
command fails, its block and all that follow stay as they are, and the exit status is 1. `--list` only shows the
commands.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from utils.cli import Parser, run
from utils.errors import DataError
from utils.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- run\n(?P<commands>.*?)\n-->\n)(?P<content>.*?)(<!-- end -->)", re.DOTALL)


def commands_of(text: str) -> list[list[str]]:
    """The commands of each block."""
    return [match["commands"].splitlines() for match in BLOCK.finditer(text)]


def refresh(text: str, number: int, content: str) -> str:
    """The text with the content of block `number` replaced."""
    match = list(BLOCK.finditer(text))[number]
    return text[: match.start("content")] + content.rstrip("\n") + "\n" + text[match.end("content") :]


def main() -> None:
    """See the module."""
    parser = Parser(__doc__)
    parser.add_argument("documents", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--fresh", action="store_true", help="delete the evaluations that the commands name, first")
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    args = parser.parse_args()
    texts = {document: _read(document) for document in args.documents}
    if args.list:
        for text in texts.values():
            print(*(f"$ {command}" for commands in commands_of(text) for command in commands), sep="\n")
        return
    cleared: set[Path] = set()
    total = sum(len(commands) for text in texts.values() for commands in commands_of(text))
    with tqdm(total=total, unit="command", disable=None) as bar:
        for document, text in texts.items():
            for number, commands in enumerate(commands_of(text)):
                output = ""
                for command in commands:
                    tqdm.write(f"$ {command}", file=sys.stderr)
                    if args.fresh:
                        clear(command, cleared)
                    output = _run(command)
                    bar.update()
                text = refresh(text, number, output)
                write_whole(document, text.encode())


def _read(document: Path) -> str:
    try:
        return document.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{document} cannot be read ({error.strerror}); give a Markdown file.") from None


def clear(command: str, cleared: set[Path]) -> None:
    """Delete the evaluation that a command's --out names, unless it is in `cleared`: this call has made it anew."""
    words = shlex.split(command)
    for flag, value in itertools.pairwise(words):
        out = (ROOT / value).resolve()
        if flag == "--out" and out not in cleared and (out / "work" / "settings.json").is_file():
            shutil.rmtree(out)
        if flag == "--out":
            cleared.add(out)


def _run(command: str) -> str:
    interpreter = f'export PATH="{Path(sys.executable).parent}:$PATH"; '
    done = subprocess.run(["bash", "-c", interpreter + command], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        raise DataError(f"`{command}` ended with status {done.returncode}; what it printed is above.")
    return done.stdout


if __name__ == "__main__":
    run(main)
