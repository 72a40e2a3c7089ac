"""``dermascan token`` and ``dermascan audit``: who may use the device's page and API, and who did what."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agent.access.audit_commands import register_audit
from agent.access.files import AccessError
from agent.access.tokens import FOLDER, LONGEST_DAYS, Refusal, Role, Token, Tokens
from agent.exits import EXIT_FAILED, EXIT_OK
from agent.records import spool
from agent.records.audit import AuditAction
from agent.records.errors import StoreError
from agent.records.feedback_command import hand_over

DEFAULT_DAYS: Final = 365
NOBODY: Final = 0xFFFFFFFF
"""``/proc/self/loginuid`` of what no login began."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dermascan token`` and ``dermascan audit``."""
    parser = subparsers.add_parser(
        "token",
        help="who may use this device's page and API",
        description="Makes, lists and revokes the tokens with which people and programs use this device's page and "
        "API. Only a hash of a token is kept: it is shown once. The agent may run or not; a change holds at once.",
        epilog=f"exit status: {EXIT_OK} done; {EXIT_FAILED} it could not be done, and why; 2 wrong words; 78 wrong "
        "configuration",
    )
    verbs = parser.add_subparsers(required=True, metavar="WHAT")
    create_ = verbs.add_parser(
        "create",
        help="make a token and show it once",
        description="Makes a token. The token alone goes to the standard output, what is said of it to the other.",
    )
    create_.add_argument("--role", required=True, choices=[role.value for role in Role], metavar="ROLE", help=_roles())
    create_.add_argument("--name", required=True, metavar="NAME", help="whose it is; stands in the audit")
    create_.add_argument(
        "--expires-days",
        type=_days,
        default=DEFAULT_DAYS,
        metavar="N",
        help=f"until when: 1 to {LONGEST_DAYS} days, 0 for until it is revoked (%(default)s)",
    )
    create_.set_defaults(run=create)
    list_ = verbs.add_parser("list", help="show which tokens there are, without the tokens themselves")
    list_.set_defaults(run=list_tokens)
    revoke_ = verbs.add_parser("revoke", help="let nobody in with a token any more, and end its sessions")
    revoke_.add_argument("token_id", metavar="TOKEN_ID", help="from dermascan token list")
    revoke_.set_defaults(run=revoke)
    for verb in (create_, list_, revoke_):
        verb.add_argument(
            "--config", type=Path, default=Path("agent.toml"), metavar="FILE", help="the agent's settings (%(default)s)"
        )
        verb.add_argument("--json", action="store_true", help="JSON: one object, or for list one on each line")
    register_audit(subparsers)


def create(arguments: argparse.Namespace) -> int:
    """Make a token; returns the exit code."""
    state_dir = _state_dir(arguments)
    tokens, role = Tokens(state_dir / FOLDER), Role(arguments.role)
    try:
        name = os.fsencode(arguments.name).decode("utf-8", "replace")
        new = tokens.create(name, role, arguments.expires_days or None)
        expires = next(token.expires_at for token in tokens.list() if token.token_id == new.token_id)
        try:
            detail = {"role": role.value, "holder": name.strip(), "expires_at": _time(expires)}
            recorded = _audit(state_dir, AuditAction.TOKEN_CREATED, new.token_id, detail)
        except (StoreError, OSError):
            tokens.revoke(new.token_id, "its making could not be audited")  # nobody was told it yet
            raise
    except (AccessError, StoreError, OSError) as error:
        return _failed(error)
    if arguments.json:
        told = {"token": new.secret, "token_id": new.token_id, "name": name.strip(), "role": role.value}
        print(json.dumps(told | {"expires_at": _time(expires), "audited": recorded}, ensure_ascii=False))
        return EXIT_OK
    ends = "until it is revoked" if expires is None else f"until {expires:%d %B %Y}"
    print(f"Token {new.token_id} for {name.strip()} ({role.value}), {ends}. Shown only now:", file=sys.stderr)
    sys.stderr.flush()
    print(new.secret)
    return EXIT_OK


def list_tokens(arguments: argparse.Namespace) -> int:
    """Show which tokens there are; returns the exit code."""
    try:
        tokens = Tokens(_state_dir(arguments) / FOLDER).list()
    except AccessError as error:
        return _failed(error)
    now = datetime.now(timezone.utc)
    if arguments.json:
        for token in tokens:
            print(json.dumps(_plain(token, now), ensure_ascii=False))
        return EXIT_OK
    if not tokens:
        print("no tokens: dermascan token create makes one")
        return EXIT_OK
    print(f"{'token':12}  {'role':11}  {'state':10}  {'made':10}  {'ends':10}  name")
    for token in tokens:
        ends = "-" if token.expires_at is None else f"{token.expires_at:%Y-%m-%d}"
        made = f"{token.created_at:%Y-%m-%d}"
        print(f"{token.token_id}  {token.role.value:11}  {_standing(token, now):10}  {made}  {ends:10}  {token.name}")
    return EXIT_OK


def revoke(arguments: argparse.Namespace) -> int:
    """Revoke a token; returns the exit code."""
    state_dir, who = _state_dir(arguments), who_asks()
    try:
        # First: whatever becomes of the audit, nobody comes in any more. Twice audits twice, which is harmless.
        token = Tokens(state_dir / FOLDER).revoke(arguments.token_id, who)
        detail = {"role": token.role.value, "holder": token.name}
        recorded = _audit(state_dir, AuditAction.TOKEN_REVOKED, token.token_id, detail)
    except (AccessError, StoreError, OSError) as error:
        return _failed(error)
    if arguments.json:
        plain = _plain(token, datetime.now(timezone.utc))
        print(json.dumps(plain | {"audited": recorded}, ensure_ascii=False))
    else:
        print(f"token {token.token_id} of {token.name} lets nobody in any more")
    return EXIT_OK


def who_asks() -> str:
    """The user at the shell, who logged in rather than who he became with sudo."""
    uid = os.getuid()
    try:
        login = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        login = NOBODY
    effective = _user(uid)
    return effective if login in {NOBODY, uid} else f"{_user(login)} (as {effective})"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _audit(state_dir: Path, action: AuditAction, subject: str, detail: dict[str, Any]) -> bool:
    """Hand a row to the agent, which adds it as soon as it runs; True where it has."""
    order = spool.AuditOrder(
        id=spool.new_id(),
        action=action.value,  # type: ignore[arg-type]  # the order names the actions of commands
        who=who_asks(),
        subject=subject,
        detail=detail,
        at=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
    return hand_over(state_dir, order)


def _state_dir(arguments: argparse.Namespace) -> Path:
    from agent.config import load_config

    return load_config(arguments.config).device.state_dir


def _plain(token: Token, now: datetime) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "name": token.name,
        "role": token.role.value,
        "state": _standing(token, now),
        "created_at": _time(token.created_at),
        "expires_at": _time(token.expires_at),
        "revoked_at": _time(token.revoked_at),
        "revoked_by": token.revoked_by,
    }


def _standing(token: Token, now: datetime) -> str:
    refusal: Refusal | None = token.refusal(now)
    return "valid" if refusal is None else refusal.value


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(timezone.utc).isoformat(timespec="seconds")


def _roles() -> str:
    return "clinician (scans and verdicts), technician (the device, no patients), integration (a program of the clinic)"


def _days(text: str) -> int:
    days = int(text)
    if not 0 <= days <= LONGEST_DAYS:
        raise argparse.ArgumentTypeError(f"must be 0 to {LONGEST_DAYS}")
    return days


def _failed(error: Exception) -> int:
    print(error, file=sys.stderr)
    return EXIT_FAILED
