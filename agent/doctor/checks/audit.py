"""The audit: whether its chain of hashes is whole."""

from __future__ import annotations

from collections.abc import Iterator

from agent.doctor.finding import Check, Finding, failed, ok, skipped
from agent.doctor.place import Place
from agent.records.audit_reading import verify
from agent.records.errors import StoreError
from agent.records.opening import DATABASE


def look(place: Place) -> Iterator[Finding]:
    """Compute the chain again."""
    if not (place.state_dir / DATABASE).exists():
        yield skipped("There is no audit yet.")
        return
    try:
        check = verify(place.state_dir)
    except StoreError:
        yield skipped("Not looked at: the database cannot be read; see 'Database'.")
        return
    if check.whole:
        yield ok(f"The audit is whole: {check.rows} rows.")
        return
    first = check.faults[0]
    yield failed(
        f"The audit was changed: row {first.seq}: {first.sentence}.",
        "change nothing more on this device; tell who is responsible for it, and keep: dermascan audit verify",
    )


CHECK = Check(
    name="audit",
    title="Audit",
    looks_at="the chain of hashes over every row of who did what",
    why="It shows that nobody rewrote who did what on this device.",
    look=look,
    limit_s=60.0,
)
