"""Who may use the page: whether the tokens can be read, and which end soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from agent.access.files import AccessError
from agent.access.tokens import FOLDER, Tokens
from agent.doctor.finding import Check, Finding, failed, ok, skipped, warning
from agent.doctor.place import Place

SOON: Final = timedelta(days=14)


def look(place: Place) -> Iterator[Finding]:
    """A token is told by its number, not by whose it is."""
    if place.config.api is None:
        yield skipped("The settings have no page and no interface.")
        return
    try:
        tokens = Tokens(place.state_dir / FOLDER).list()
    except AccessError as error:
        what, _, remedy = str(error).rpartition(": ")
        yield failed(f"Nobody is let in: {what}.", remedy)
        return
    now = place.now()
    valid = [token for token in tokens if token.refusal(now) is None]
    if not valid:
        yield warning(
            "Nobody can sign in at the page: no token is valid.",
            "make one: sudo dermascan token create --role clinician --name NAME",
        )
        return
    found = False
    for token in valid if place.clock_trusted else ():
        if token.expires_at is not None and token.expires_at - now < SOON:
            found = True
            yield warning(
                f"The token {token.token_id} ({token.role.value}) ends on {token.expires_at:%d %B %Y}.",
                f"make a new one in time: sudo dermascan token create --role {token.role.value} --name NAME",
            )
    if not found:
        yield ok(f"{len(valid)} tokens are valid.")


CHECK = Check(
    name="access",
    title="Page's tokens",
    looks_at="whether the tokens can be believed, whether any is valid, which end within 14 days",
    why="Without a valid token nobody in the clinic sees an answer at the page.",
    look=look,
)
