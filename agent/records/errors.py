"""What the store says when it cannot do what was asked."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot open or cannot do this. The text says which file, what is wrong and what to do."""


class StoreFull(StoreError):
    """The quota or the disk is full (F06): nothing of the batch was written. Pause intake, make room, try again."""


class StoreFaulty(StoreError):
    """The disk under the database fails, or the file is damaged: nothing of the batch was written. Wait, try again."""


class StoreClosed(StoreError):
    """The store was closed before this was committed: it did not happen."""


class StoreBusy(StoreError):
    """Others read the database for too long. Nothing is wrong with it: try again."""


class UnknownScan(StoreError):
    """No scan of this id was ever claimed."""


class AlreadyTerminal(StoreError):
    """The scan is answered or rejected already: a capture reaches exactly one terminal state, once."""


class VerdictRefused(StoreError):
    """The verdict cannot be kept as it is: it names no class, or its scan has not ended."""


class NotEnded(VerdictRefused):
    """The scan has not ended, so that there is nothing to judge yet."""


class VerdictOverdue(VerdictRefused):
    """Another verdict was given meanwhile than who gives this one knows of."""
