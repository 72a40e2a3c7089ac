"""LitServe with the traced network: ``python -m benchmarks.peers.litserve_server FOLDER PORT``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve

from benchmarks.peers.answering import answer, load
from engines.manifest import Manifest


class Classifier(litserve.LitAPI):
    """As its documentation shows: set-up once in each worker, then a request at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(api_path="/api/v1/analyze")
        self._folder = folder

    def setup(self, device: str) -> None:  # noqa: ARG002 - on the processor
        """Load the network."""
        self._module = load(self._folder)
        self._manifest = Manifest.model_validate_json((self._folder / "manifest.json").read_bytes())

    def predict(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        return answer(self._module, self._manifest, body)


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(Path(sys.argv[1])), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
