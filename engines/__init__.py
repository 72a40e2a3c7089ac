"""What an engine bundle is, and how one is run: manifest, preprocessing contract, backends, worker process, ladder."""

import os

# ONNX Runtime from 1.29 on reports to its maker unless this is set before it is loaded. A device in a clinic tells
# nobody that it is one (F30).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
