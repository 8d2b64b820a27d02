#!/usr/bin/env bash
# Sets up .venv on the first run, then lint, types and all tests. Extra arguments go to pytest.
set -eu
case "${1:-}" in -h | --help) sed -n 2p "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."
. scripts/setup.sh requirements-dev.txt
start=$SECONDS
say "lint"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
say "types"
"$PYTHON" -m mypy
say "pretrained weights (145 MB the first time)"
"$PYTHON" scripts/fetch_weights.py || say "tests that need them are skipped"
say "tests"
# One thread a process: the tensors are tiny, and threads that wait for each other on a busy machine are ten times slower.
export OMP_NUM_THREADS=1
"$PYTHON" -m pytest -n auto "$@"
say "all passed in $((SECONDS - start)) s"
