"""The clinic page of the demonstration, with a link that signs a clinician in."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from agent.access.tokens import FOLDER, Role, Tokens

PORT: Final = 8440
"""Where it is free: a page that is open finds the next demonstration again."""
NAME: Final = "demonstration"


def page_port() -> int:
    """The usual port, or 0 (any) where something else has it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


class PageKey:
    """A clinician's token for as long as the demonstration runs. The link holds it after the ``#``: it is in no log."""

    def __init__(self, state: Path) -> None:
        """Make the token, and revoke those that a killed demonstration left.

        Raises:
            AccessError: the tokens' file cannot be used; the message says what to do.
        """
        self._tokens = Tokens(state / FOLDER)
        for token in self._tokens.list():
            if token.name == NAME and token.revoked_at is None:
                self._tokens.revoke(token.token_id, NAME)
        self._token = self._tokens.create(NAME, Role.CLINICIAN)

    def link(self, address: str) -> str:
        """The page's address, which ends in a slash, with the token."""
        return f"{address}#token={self._token.secret}"

    def close(self) -> None:
        """Nobody gets in with it any more."""
        self._tokens.revoke(self._token.token_id, NAME)
