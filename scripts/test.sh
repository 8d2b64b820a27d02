#!/usr/bin/env bash
# Sets up .venv on the first run, then lint, types and all tests; `bash scripts/test.sh fast`: only the tests that protect
# the product, in under three minutes on two cores. Further arguments go to pytest.
set -eu
case "${1:-}" in -h | --help) sed -n 2,3p "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."
marked=""
if [ "${1:-}" = fast ]; then
    marked="not slow"
    shift
fi
. scripts/setup.sh requirements-dev.txt
start=$SECONDS
say "lint"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
say "types"
"$PYTHON" -m mypy
if [ -z "$marked" ]; then
    say "pretrained weights (145 MB the first time)"
    "$PYTHON" scripts/fetch_weights.py || say "tests that need them are skipped"
fi
say "tests${marked:+ that are $marked}"
# One thread a process: the tensors are tiny, and threads that wait for each other on a busy machine are ten times slower.
export OMP_NUM_THREADS=1
"$PYTHON" -m pytest -n auto -m "$marked" "$@"
say "all passed in $((SECONDS - start)) s"
