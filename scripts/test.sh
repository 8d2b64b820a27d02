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
say "tests"
"$PYTHON" -m pytest "$@"
say "all passed in $((SECONDS - start)) s"
