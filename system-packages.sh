#!/usr/bin/env bash
# Debian packages that the set-up needs: Python's venv, and a C++ compiler for the kernels.
# Does nothing where they are there. Without a compiler the set-up goes on: the kernels then fall
# back on plain PyTorch formulas and say so.
set -euo pipefail

python="${1:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "supnorm needs Python 3.11 or newer; '$python' is not. Try: make PYTHON=/path/to/python3.11" >&2
  exit 2
}

missing=()
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
command -v g++ >/dev/null || missing+=(g++)
[ "${#missing[@]}" -gt 0 ] || exit 0

install() {
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  command -v apt-get >/dev/null &&
    "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
}

install || {
  echo "could not install ${missing[*]}; please do, on Debian by: sudo apt-get install ${missing[*]}" >&2
  "$python" -c 'import ensurepip' 2>/dev/null || exit 2
}
