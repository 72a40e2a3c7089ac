#!/usr/bin/env bash
# Build a virtual environment: scripts/setup.sh FOLDER agent|everything
# "agent" is what a device needs; "everything" adds the build stage (torch), the tests and the developers' tools.
set -euo pipefail
folder=$1 level=$2
python=${PYTHON:-python3}
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "no '$python' here; install Python 3.10 or newer (apt-get install python3 python3-venv)"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' ||
  fail "$("$python" --version) is not supported; use Python 3.10 to 3.13, for example: make PYTHON=python3.11"
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "python$version-venv is missing; installing it with apt-get"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv" >/dev/null
  else
    fail "Python's venv module is incomplete; run: sudo apt-get install python$version-venv"
  fi
fi

[ -x "$folder/bin/python" ] || { say "making $folder with $("$python" --version)"; "$python" -m venv "$folder"; }
pip() { "$folder/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
if [ "$level" = everything ]; then
  say "installing the agent, the build stage (torch: a few hundred megabytes) and the developers' tools; this takes minutes"
  # torch by its exact version first: a range would be answered with the newest build for another machine.
  pip install --quiet -c constraints.txt torch==2.13.0
  pip install --quiet -c constraints.txt -e '.[build,dev]'
  # Only for tests, and without their dependencies: the reference networks, and a TensorRT builder that needs no GPU.
  if [ "$(uname -m)" = x86_64 ]; then
    pip install --quiet --no-deps -c constraints.txt torchvision timm \
      tensorrt_rtx_cu13_libs tensorrt_rtx_cu13_bindings
  fi
  # The official AsyncAPI parser and axe-core; where they cannot be installed their tests say that they are skipped.
  if command -v npm >/dev/null; then
    for tool in tests/messages/parser tests/web/page/axe; do
      npm install --silent --no-audit --no-fund --no-package-lock --prefix "$tool" ||
        say "what $tool needs could not be installed; its tests will be skipped"
    done
  fi
  touch "$folder/.agent" "$folder/.everything"
else
  say "installing the agent (no torch); about a minute"
  pip install --quiet -c constraints.txt -e '.[demo]' || pip install --quiet -c constraints.txt -e .
  touch "$folder/.agent"
fi
say "$folder is ready"
