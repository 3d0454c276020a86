#!/usr/bin/env bash
# Debian packages that the set-up needs: Python's venv, and a C++ compiler for the kernels. With
# --tests also what some tests run against for real: a browser, a Slurm cluster, a Prometheus.
# Does nothing where they are there. Without a compiler the set-up goes on: the kernels then fall
# back on plain PyTorch formulas and say so; tests whose packages are missing are skipped and say so.
set -euo pipefail

python="${1:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "supnorm needs Python 3.11 or newer; '$python' is not. Try: make PYTHON=/path/to/python3.11" >&2
  exit 2
}

PATH="$PATH:/usr/sbin"
missing=()
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
command -v g++ >/dev/null || missing+=(g++)
if [ "${2:-}" = --tests ]; then
  command -v chromium >/dev/null || missing+=(chromium)
  command -v slurmctld >/dev/null || missing+=(slurm-wlm)
  command -v munged >/dev/null || missing+=(munge)
  command -v promtool >/dev/null || missing+=(prometheus)
fi
[ "${#missing[@]}" -gt 0 ] || exit 0

# No daemon may start with its package: the tests start their own.
without_services() {
  local policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then
    "$@"
    return
  fi
  "${as_root[@]}" install -m 755 /dev/stdin "$policy" <<<$'#!/bin/sh\nexit 101'
  local status=0
  "$@" || status=$?
  "${as_root[@]}" rm "$policy"
  return "$status"
}

install_missing() {
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  command -v apt-get >/dev/null &&
    "${as_root[@]}" apt-get update -qq &&
    without_services "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq "${missing[@]}"
}

install_missing || {
  echo "could not install ${missing[*]}; please do, on Debian by: sudo apt-get install ${missing[*]}" >&2
  "$python" -c 'import ensurepip' 2>/dev/null || exit 2
}
