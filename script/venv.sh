# Sourced by the scripts beside it: make_venv EXTRA makes .venv in the project and installs the project into it.
# It says nothing unless it has something to install, and shows pip's output only where that fails.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=$root/.venv

fits() { # a Python that is new enough and can make an environment
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if fits "$PYTHON"; then printf '%s\n' "$PYTHON" && return; fi
        printf '%s\n' "PYTHON=$PYTHON is no Python >= 3.11 with the module venv" >&2
        return 1
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if fits "$name"; then printf '%s\n' "$name" && return; fi
    done
    printf '%s\n' "No Python >= 3.11 with the module venv was found (on Debian and Ubuntu: apt-get install python3-venv)." \
        "If you have one elsewhere, name it: PYTHON=/path/to/python3 $0" >&2
    return 1
}

stamp() { # what the installation was made from; another folder or another declaration is another stamp
    printf '%s\n' "$root"
    cat "$root/setup.cfg" "$root/setup.py" "$root/pyproject.toml" "$root/requirements.txt" "$root/script/constraints.txt" | cksum
}

installed() { # dev brings everything that the other extras bring
    for extra in "$1" dev; do
        if [ -f "$venv/.installed-$extra" ] && [ "$(cat "$venv/.installed-$extra")" = "$(stamp)" ]; then return; fi
    done
    return 1
}

make_venv() {
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null && installed "$1"; then return; fi
    log=$(mktemp "${TMPDIR:-/tmp}/cleo-install.XXXXXX")
    printf '%s\n' "Installing into $venv ..." >&2
    if install "$1" >"$log" 2>&1; then
        rm -f "$log"
    else
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
}

install() {
    if ! { [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version; } || { [ -f "$venv/.root" ] && [ "$(cat "$venv/.root")" != "$root" ]; }; then
        python=$(find_python) || return 1
        "$python" -m venv --clear "$venv" || return 1
    fi
    rm -f "$venv"/.installed-*
    printf '%s\n' "$root" >"$venv/.root"
    (cd "$root" && "$venv/bin/python" -m pip install --no-input --disable-pip-version-check -c requirements.txt -c script/constraints.txt -e ".[$1]") || return 1
    stamp >"$venv/.installed-$1"
}
