"""Writes the demonstration's ``agent.toml``: a real settings file, which ``dermascan run`` takes as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

SETTINGS_NAME: Final = "agent.toml"
CAPTURES: Final = "captures"
"""The simulated dermoscope's folder, inside the state folder."""
RESULTS: Final = "results"

_TEXT: Final = """\
# Written by `dermascan demo` each time it starts: SIMULATED pictures, demonstration weights, not for clinical use.
# The same agent runs on these settings without the simulated dermoscope: dermascan run --config {settings}

[device]
id = "demo-device"
clinic_id = "demo-clinic"
state_dir = "."              # holds dermascan.db and results/; paths are relative to this file

[[dermoscope]]
id = "simulated"
folder = "{captures}"

[inference]
bundle = {bundle}
require_trusted = false      # the demonstration's key is everybody's
ladder = ["cpu"]
deadline_s = 3.0

[api]                        # the clinic's page and interface, for this machine only
port = {page_port}
"""
_MQTT: Final = """
[mqtt]                       # the demonstration's own broker: plain MQTT, which is allowed to this machine only
host = "127.0.0.1"
port = {port}
delivery = "cloud-ack"       # an event leaves the outbox when the cloud says that it has committed it
"""


def write_settings(state: Path, bundle: Path, mqtt_port: int | None, page_port: int = 0) -> Path:
    """Make the state folder with its ``agent.toml`` and the dermoscope's folder; returns the settings file.

    Without a port for MQTT events wait in the outbox; port 0 of the page is any that is free.
    """
    (state / CAPTURES).mkdir(parents=True, exist_ok=True)
    path = state / SETTINGS_NAME
    # A JSON string is a TOML string, as long as no character is written as an escaped surrogate pair.
    quoted = json.dumps(str(bundle.absolute()), ensure_ascii=False)
    text = _TEXT.format(settings=path, captures=CAPTURES, bundle=quoted, page_port=page_port)
    text += "" if mqtt_port is None else _MQTT.format(port=mqtt_port)
    path.write_text(text, encoding="utf-8")
    return path
