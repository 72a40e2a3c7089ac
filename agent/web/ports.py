"""What the web asks of the agent in whose process it runs, and nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from agent.answer.pipeline import Setting
from agent.carrying import Ended, Load
from agent.config import Config
from agent.intake.capture import Capture
from agent.records.space import SpaceGuard
from agent.records.store import Store
from agent.sections import DermoscopeSection
from agent.sync.state import SyncState


@dataclass(frozen=True)
class Agent:
    """The running agent, seen from the web. Everything here may be called from any thread, and returns at once."""

    config: Config
    """As at the start: what can change meanwhile is asked for with a call."""
    dermoscopes: Callable[[], Sequence[DermoscopeSection]]
    """Whose folders are watched now."""
    started_at: datetime
    started: float
    """The same on the monotonic clock."""
    store: Store
    space: SpaceGuard
    setting: Callable[[], Setting]
    """What analyses are made with now: bundle, ladder, limits, clocks."""
    ask: Callable[[Capture], Future[Ended]]
    """Have a capture carried to its end; raises Busy or Stopped."""
    load: Callable[[], Load]
    folder_ok: Callable[[str], bool]
    """Whether a dermoscope's folder is there, and the one that it was."""
    warnings: Callable[[], tuple[str, ...]]
    """What a person should look after that nothing else here tells of: one sentence each."""
    sync: Callable[[], SyncState | None]
    """How the connection to the cloud stands; None without one."""
