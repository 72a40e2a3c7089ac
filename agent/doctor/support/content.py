"""What a support bundle holds, as texts by their names; each is made from named fields, never copied wholesale."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any, Final

from agent import __version__
from agent.config import Config
from agent.doctor.checks import sandbox
from agent.doctor.checks.certificates import certificate_files
from agent.doctor.checks.service import ask_systemd
from agent.doctor.patience import TooLong, program
from agent.doctor.place import UNIT, Place
from agent.records.errors import StoreError
from agent.records.reading import open_reading, outbox_stats

LINES: Final = 5000
"""Of the service's log."""
_SYSTEM_FILES: Final = ("etc/os-release", "etc/nv_tegra_release", "proc/loadavg", "proc/meminfo", "proc/uptime")
_PRIVATE_KEYS: Final = {"mqtt": ("username",)}
_PARTS: Final = ("results", "calibration", "cache", "spool", "quarantine", "access", "analysing")


def texts(place: Place) -> Iterator[tuple[str, Callable[[], str]]]:
    """Names and how each text is made; any of them may fail, which costs that text alone."""
    yield "versions.json", lambda: _json(_versions())
    yield "system.json", lambda: _json(_system(place.root))
    yield "service.txt", lambda: _service(place.root)
    config = place.settings
    if config is None:
        return  # nor the log: without settings nobody knows what must not be in it
    yield "log.txt", _log
    yield "settings.json", lambda: _json(_settings(config))
    yield "figures.json", lambda: _json(_figures(config.device.state_dir))
    yield "model.json", lambda: _json(_model(config))
    yield "certificates.json", lambda: _json(_certificates(config))


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"


def _versions() -> dict[str, Any]:
    packages = {one.name: one.version for one in distributions() if one.name}
    try:
        ours = version("dermascan-edge")
    except PackageNotFoundError:
        ours = __version__
    return {
        "dermascan-edge": ours,
        "python": sys.version,
        "machine": platform.machine(),
        "kernel": platform.release(),
        "packages": dict(sorted(packages.items())),
    }


def _system(root: Path) -> dict[str, Any]:
    told: dict[str, Any] = {"cpus": os.cpu_count()}
    for name in _SYSTEM_FILES:
        try:
            told[name] = (root / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
    try:
        lines = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return told
    # Place, options and kind; where a share comes from may name people.
    told["mounts"] = [f"{line.split()[4]} {line.split()[5]} {line.partition(' - ')[2].split()[0]}" for line in lines]
    return told


def _service(root: Path) -> str:
    parts = [f"{key}={value}" for key, value in sorted(ask_systemd().items())]
    for folder in sandbox.FOLDERS:
        for path in (root / folder / UNIT, *sorted((root / folder / f"{UNIT}.d").glob("*.conf"))):
            if path.is_file():
                parts += ["", f"# {path}", *map(_without_values, path.read_text("utf-8", "replace").splitlines())]
    return "\n".join(parts) + "\n"


def _without_values(line: str) -> str:
    """The environment may hold anything."""
    key, equals, _ = line.partition("=")
    return f"{key}=[removed]" if equals and key.strip() in {"Environment", "SetCredential"} else line


def _log() -> str:
    try:
        done = program(["journalctl", "-u", UNIT, "-n", str(LINES), "-o", "short-iso", "--no-pager", "--no-hostname"])
    except TooLong:
        return "the journal did not answer\n"
    return "there is no journal here\n" if done is None else done.stdout or done.stderr


def _settings(config: Config) -> dict[str, Any]:
    told = config.model_dump(mode="json")
    for section, keys in _PRIVATE_KEYS.items():
        for key in keys:
            if told.get(section) and told[section].get(key) is not None:
                told[section][key] = "[removed]"
    return told


def _figures(state_dir: Path) -> dict[str, Any]:
    told: dict[str, Any] = {"files": {name: _size(state_dir / name) for name in _PARTS}}
    told["files"] |= {path.name: path.stat().st_size for path in state_dir.glob("dermascan.db*")}
    try:
        with open_reading(state_dir) as db:
            counts = "SELECT dermoscope_id, state, backend, reason, count(*) FROM scans GROUP BY 1, 2, 3, 4"
            told["scans"] = [list(row) for row in db.execute(counts)]
            told["first_and_last"] = list(db.execute("SELECT min(received_at), max(received_at) FROM scans").fetchone())
            told["verdicts"] = db.execute("SELECT count(*) FROM verdicts").fetchone()[0]
            told["audit"] = [list(row) for row in db.execute("SELECT action, count(*) FROM audit GROUP BY action")]
            dead = "SELECT type, topic, reason, count(*) FROM outbox WHERE state = 'dead' GROUP BY 1, 2, 3"
            told["dead"] = [list(row) for row in db.execute(dead)]
        told["outbox"] = vars(outbox_stats(state_dir))
    except StoreError as error:
        told["database"] = str(error)
    return told


def _size(folder: Path) -> dict[str, int] | None:
    if not folder.is_dir():
        return None
    sizes = [path.lstat().st_size for path in folder.rglob("*")]
    return {"entries": len(sizes), "bytes": sum(sizes)}


def _model(config: Config) -> dict[str, Any]:
    from agent.model import choose_bundle
    from engines.installed.ledger import Ledger

    bundle = choose_bundle(config.inference)
    told: dict[str, Any] = {
        "bundle": bundle.label,
        "model_sha256": bundle.model_sha256,
        "manifest_sha256": bundle.manifest_sha256,
        "signer": vars(bundle.signer) if bundle.signer else None,
    }
    if config.inference.models is not None:
        told["activation"] = Ledger(config.inference.models).read().model_dump(mode="json")
    plans = config.device.state_dir / "cache/plans"
    told["plans"] = {path.parent.name: json.loads(path.read_bytes()) for path in plans.glob("[0-9a-f]*/plan.json")}
    return told


def _certificates(config: Config) -> dict[str, Any]:
    from cryptography import x509

    told: dict[str, Any] = {}
    for key, (path, _) in certificate_files(config).items():
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            told[key] = str(error)
            continue
        told[key] = [
            {
                "subject": one.subject.rfc4514_string(),
                "issuer": one.issuer.rfc4514_string(),
                "from": one.not_valid_before_utc,
                "until": one.not_valid_after_utc,
            }
            for one in found
        ]
    return told
