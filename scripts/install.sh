#!/bin/sh
# Install, upgrade or mend DermaScan Edge from this folder (the unpacked archive): sudo ./install.sh [--device-id ID --clinic-id ID]
# Needs Python 3.10 to 3.13 and nothing else; ./install.sh --help says what can be chosen.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) || {
  echo "$here: is damaged: unpack the archive again" >&2
  exit 1
}
wheel=$(echo "$here"/wheels/dermascan_edge-*.whl)
PYTHONDONTWRITEBYTECODE=1 exec python3 -c 'import sys
sys.path[0:1] = [sys.argv.pop(1)]
from agent.install.commands import main
sys.exit(main())' "$wheel" install --from "$here" "$@"
