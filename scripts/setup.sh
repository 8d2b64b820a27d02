# Sourced by demo.sh and test.sh: makes .venv from a requirements file, or reuses it, and sets $PYTHON.
#   usage: . scripts/setup.sh requirements.txt
# An environment of your own is used instead if the variable PYTHON names its interpreter.

say() { printf '\n[%s] %s\n' "$(date +%H:%M:%S)" "$*"; }

find_python() {
    for candidate in python3.12 python3.11 python3.10 python3 python3.13; do
        if "$candidate" -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "error: Python 3.10 to 3.13 with the module venv is needed; install one (Debian: apt-get install python3-venv)." >&2
    return 1
}

setup() {
    local requirements=$1 stamp
    if [ -n "${PYTHON:-}" ]; then
        say "using the environment of $PYTHON"
        return 0
    fi
    stamp=.venv/installed-$(cat requirements*.txt | cksum | cut -d' ' -f1)-$(basename "$requirements")
    if [ ! -f "$stamp" ]; then
        say "installing $requirements into .venv (PyTorch is large: a few minutes the first time)"
        local start=$SECONDS interpreter
        interpreter=$(find_python) || return 1
        [ -x .venv/bin/python ] || "$interpreter" -m venv .venv || return 1
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$requirements" || return 1
        touch "$stamp"
        say "installed in $((SECONDS - start)) s"
    fi
    PYTHON=$PWD/.venv/bin/python
}

setup "$1" || exit 1
export PYTHON
