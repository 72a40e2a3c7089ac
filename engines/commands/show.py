"""Bundles for people: the models folder as a table, one bundle as a page; plain where it is no terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.bundle import Bundle
from engines.installed.activation import Activation
from engines.installed.catalogue import VERIFICATION_NAME, Entry


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry of the models folder as plain data."""
    return {**asdict(entry), "folder": str(entry.folder)}


def bundle_json(bundle: Bundle, fault: str | None) -> dict[str, Any]:
    """A bundle as plain data; ``fault`` says why it may not run here."""
    manifest = bundle.manifest
    return {
        "bundle": bundle.label,
        "folder": str(bundle.folder),
        "may_run_here": fault is None,
        "fault": fault,
        "signer": asdict(bundle.signer) if bundle.signer else None,
        "manifest_sha256": bundle.manifest_sha256,
        "verification": _verification(bundle),
        "manifest": manifest.model_dump(mode="json"),
        "bytes": {name: (bundle.folder / name).stat().st_size for name in manifest.files},
    }


def _verification(bundle: Bundle) -> str:
    from engines.verification.record import RecordError, read_record

    path = bundle.folder / VERIFICATION_NAME
    if not path.exists():
        return "none: run dermascan engine verify"
    try:
        record = read_record(path)
    except RecordError as error:
        return f"unusable: {error}"
    if record.manifest_sha256 != bundle.manifest_sha256:
        return "of another bundle: run dermascan engine verify again"
    return f"{record.verdict.value} on {record.verified_at[:10]}"


def print_list(models: Path, entries: Sequence[Entry], state: Activation) -> None:
    """Print the models folder."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not entries:
        console.print(
            f"{models}: no bundle is installed; dermascan engine activate FOLDER copies one in", soft_wrap=True
        )
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("bundle", "role", "signed by", "architecture", "MB"):
        table.add_column(heading, justify="right" if heading == "MB" else "left", no_wrap=heading == "bundle")
    for entry in entries:
        signer = entry.signer.name if entry.signer else "UNUSABLE"
        size = f"{entry.bytes / 1e6:.1f}" if entry.bytes else ""
        style = "red" if entry.fault else "bold" if entry.role == "active" else None
        table.add_row(*map(escape, (entry.label, entry.role, signer, entry.architecture, size)), style=style)
    console.print(table)
    for entry in entries:
        if entry.fault:
            console.print(escape(f"unusable: {entry.fault}"), soft_wrap=True)
    if state.active is None and state.provisional is None:
        console.print("nothing is active")
    for failure in state.failures:
        text = f"given up {failure.at}, {failure.stage.value}: {failure.installed.bundle}: {failure.reason}"
        console.print(escape(text), soft_wrap=True)


def print_bundle(content: Mapping[str, Any]) -> None:
    """Print what :func:`bundle_json` gave."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    manifest, signer = content["manifest"], content["signer"]
    point, golden = manifest["operating_point"], manifest["golden"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    shares = (f"{name} {_share(point[name])}" for name in ("sensitivity", "specificity"))
    measured = f"{', '.join(shares)}, {point['chosen_on']}"
    rows = [
        ("bundle", content["bundle"]),
        ("may run here", "yes" if content["may_run_here"] else f"NO: {content['fault']}"),
        ("signed by", f"{signer['name']} ({signer['key_id'][:16]})" if signer else "nobody who is trusted here"),
        ("verification", content["verification"]),
        ("architecture", manifest["architecture"]),
        ("input", f"{manifest['input']['size']} px, {manifest['input']['colour_order']}"),
        ("threshold", f"melanoma risk from {point['threshold']:.4f}: {measured}"),
        ("golden image", f"{golden['image']}, every probability within {golden['tolerance']:g}"),
        ("intended use", manifest["intended_use"]),
        ("licence", manifest["licence"]),
        *((f"from: {key}", value) for key, value in manifest["provenance"].items()),
        *((name, f"{content['bytes'][name]:,} bytes, sha256 {sha256}") for name, sha256 in manifest["files"].items()),
        ("manifest.json", f"sha256 {content['manifest_sha256']}"),
        ("folder", content["folder"]),
    ]
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1%}"
