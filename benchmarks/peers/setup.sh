#!/usr/bin/env bash
# Install LitServe and TorchServe into a folder of their own: benchmarks/peers/setup.sh FOLDER
# They run on the torch of .venv, so only what torch's environment lacks is installed.
set -euo pipefail
folder=$1 here=$(cd "$(dirname "$0")/../.." && pwd)
command -v java >/dev/null || echo "TorchServe needs Java 17 (apt-get install openjdk-17-jre-headless); it will be left out" >&2
"$here/.venv/bin/python" -m pip --disable-pip-version-check install --quiet --upgrade --target "$folder" --no-deps \
  litserve==0.2.19 pyzmq==27.3.0 uvloop==0.23.0 httptools==0.9.0 torchserve==0.12.0 torch-model-archiver==0.12.0 \
  enum-compat==0.0.3 pynvml==13.0.1 nvidia-ml-py
touch "$folder/.ready"
