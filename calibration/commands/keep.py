"""``activate``, ``status``, ``history``, ``rollback``: which profile is in use, and how it came to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calibration.commands.desk import Desk, Refused
from calibration.commands.exits import EXIT_FAIL, EXIT_PASS, EXIT_STALE
from calibration.commands.run import Result
from calibration.shelf import writing as keep
from calibration.shelf.files import ShelfError
from calibration.shelf.profile import Profile
from calibration.shelf.record import Active, Override, Record, What
from calibration.shelf.standing import Standing, State
from calibration.visit.report_content import remark

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {State.VALID: "bold green", State.EXPIRED: "bold yellow", State.NONE: "bold red"}
_CODES = {State.VALID: EXIT_PASS, State.EXPIRED: EXIT_STALE, State.NONE: EXIT_FAIL}
SOON_DAYS = 5.0


def activate(desk: Desk) -> Result:
    """Put a profile into use."""
    profile, operator, now = desk.chosen_profile(), desk.operator, desk.clock.moment()
    use = keep.activate(desk.shelf, profile, operator, now, _override(desk))
    standing = desk.shelf.standing(desk.dermoscope, now, trusted=True)

    def show(console: Console) -> None:
        from calibration.commands.screen import next_step

        console.print(
            f"[bold]{profile.profile_id}[/] is in use for {desk.dermoscope} until {profile.expires_at:%d %B %Y}."
        )
        _show_sentences(console, standing)
        console.print("A running agent corrects with it from its next capture on.")
        next_step(console, f"dermascan calibrate report{desk.options()} --profile {profile.profile_id}")

    return Result(EXIT_PASS, {"done": "activated", **_use_data(desk.dermoscope, use, standing)}, show)


def _override(desk: Desk) -> Override | None:
    if not getattr(desk.arguments, "override", False):
        return None
    name, reason = (str(getattr(desk.arguments, key, None) or "").strip() for key in ("name", "reason"))
    if not name or not reason:
        raise Refused(
            "An override needs who answers for it (--name NAME) and why (--reason TEXT); both are recorded and "
            "stand in "
            "the report."
        )
    return Override(name=name, reason=reason)


def rollback(desk: Desk) -> Result:
    """Go back to the profile before."""
    operator, now = desk.operator, desk.clock.moment()
    use = keep.rollback(desk.shelf, desk.dermoscope, operator, now, getattr(desk.arguments, "reason", None))
    standing = desk.shelf.standing(desk.dermoscope, now, trusted=True)

    def show(console: Console) -> None:
        console.print(f"[bold]{use.profile_id}[/] is in use for {desk.dermoscope} again.")
        _show_sentences(console, standing)

    return Result(_CODES[standing.state], {"done": "rolled back", **_use_data(desk.dermoscope, use, standing)}, show)


def status(desk: Desk) -> Result:
    """The standing of one dermoscope, or of all."""
    scopes = (desk.dermoscope,) if getattr(desk.arguments, "dermoscope", None) else desk.known
    if not scopes:
        raise Refused("No dermoscope is known here yet; calibrate one first (dermascan calibrate --dermoscope ID).")
    now, trusted = desk.clock.now(), desk.clock.trusted()
    rows = [_row(desk, scope, desk.shelf.standing(scope, now, trusted)) for scope in scopes]
    # The worst of them: a dermoscope without a profile is worse than one whose profile is old.
    code = max((_CODES[standing.state] for _, standing, _ in rows), key=(EXIT_PASS, EXIT_STALE, EXIT_FAIL).index)
    data = [_standing_data(scope, standing) | {"use": _plain(use)} for scope, standing, use in rows]

    def show(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for heading in ("dermoscope", "state", "profile", "made", "verified", "commissioned at"):
            table.add_column(heading)
        for scope, standing, use in rows:
            made = "" if standing.profile_id is None else "?" if standing.age_days is None else _age(standing.age_days)
            verified = f"{use.last_verified_at:%d %b %Y}" if use and use.last_verified_at else ""
            mean = f"mean {use.commissioning:.2f}" if use else ""
            table.add_row(
                scope,
                Text(standing.state.value, _STYLES[standing.state]),
                standing.profile_id or "",
                made,
                verified,
                mean,
            )
        console.print(table)
        for scope, standing, _ in rows:
            _show_sentences(console, standing, f"{scope}: ")

    return Result(code, {"dermoscopes": data}, show)


def _row(desk: Desk, scope: str, standing: Standing) -> tuple[str, Standing, Active | None]:
    try:
        use = desk.shelf.record(scope).active
    except ShelfError:
        use = None
    if standing.state is State.VALID and standing.age_days is not None and use is not None:
        profile = desk.shelf.profile(scope, use.profile_id)
        left = _days_left(profile, standing.age_days)
        if left <= SOON_DAYS:
            sentence = f"The profile expires on {profile.expires_at:%d %B %Y}: plan a calibration."
            standing = Standing(standing.state, standing.profile_id, standing.age_days, (*standing.sentences, sentence))
    return scope, standing, use


def _days_left(profile: Profile, age_days: float) -> float:
    return (profile.expires_at - profile.created_at).total_seconds() / 86400.0 - age_days


def history(desk: Desk) -> Result:
    """Everything that was done to a dermoscope's colours."""
    record: Record = desk.record()
    in_use = record.active.profile_id if record.active else None

    def show(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        if not record.events:
            console.print(f"Nothing was done to {desk.dermoscope} yet.")
            return
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for heading in ("no.", "when (UTC)", "what", "profile", "by", "remark"):
            table.add_column(heading, justify="right" if heading == "no." else "left")
        for event in record.events:
            used = event.profile_id == in_use and event.what in {What.ACTIVATED, What.ROLLED_BACK}
            table.add_row(
                str(event.sequence),
                f"{event.at:%Y-%m-%d %H:%M}",
                Text(event.what.value, "green" if used else ""),
                event.profile_id or "",
                Text(event.operator),
                Text(remark(event)),
            )
        console.print(table)
        console.print(f"in use: {in_use or 'none'}")

    events = [event.model_dump(mode="json") for event in record.events]
    return Result(EXIT_PASS, {"dermoscope": desk.dermoscope, "in_use": in_use, "events": events}, show)


def _use_data(scope: str, use: Active, standing: Standing) -> dict[str, Any]:
    return {**_standing_data(scope, standing), "use": _plain(use)}


def _standing_data(scope: str, standing: Standing) -> dict[str, Any]:
    return {
        "dermoscope": scope,
        "state": standing.state.value,
        "profile_id": standing.profile_id,
        "age_days": None if standing.age_days is None else round(standing.age_days, 2),
        "sentences": list(standing.sentences),
    }


def _plain(use: Active | None) -> Mapping[str, Any] | None:
    return None if use is None else use.model_dump(mode="json")


def _show_sentences(console: Console, standing: Standing, before: str = "") -> None:
    from rich.text import Text

    for sentence in standing.sentences:
        console.print(Text(f"{before}{sentence}", "yellow"))


def _age(days: float) -> str:
    return "today" if days < 1.0 else f"{days:.0f} days ago" if days >= 2.0 else "yesterday"
