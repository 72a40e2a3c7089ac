#!/usr/bin/env bash
# The agent's suite on every Python of 3.10 to 3.13 (or those named) that is here, each in a virtual environment without
# torch. The page's tests are left out: its browser is the same whatever Python serves it.
set -uo pipefail
failed=0
find_python() { # the newest interpreter that answers to this version: on the PATH, or where pyenv keeps them
  local candidate
  for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    [ -x "$candidate" ] && "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null &&
      { echo "$candidate"; return; }
  done
}
suite() { # version python: its own virtual environment, then the suite
  local version=$1 python=$2 folder=.venv-$1 stamp=.venv-$1/.suite
  if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
    echo "==> Python $version: making $folder (the agent and the test tools, no torch)"
    { [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"; } &&
      "$folder/bin/python" -m pip --disable-pip-version-check install --quiet -c constraints.txt -e '.[suite]' && touch "$stamp" ||
      { echo "==> Python $version: could not be set up"; return 1; }
  fi
  echo "==> Python $version: the agent's suite"
  # shellcheck disable=SC2086 - several words
  "$folder/bin/python" -m pytest -q ${SHARED:-} --ignore tests/build --ignore tests/training --ignore tests/web/page
}
for version in ${*:-3.10 3.11 3.12 3.13}; do
  python=$(find_python "$version")
  [ -n "$python" ] || { echo "==> Python $version: not on this machine, skipped"; continue; }
  suite "$version" "$python" || failed=1
done
exit $failed
