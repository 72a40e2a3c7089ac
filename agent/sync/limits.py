"""The figures by which the sync lives: how much at once, how long to wait, how often to try again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SyncLimits:
    """Times in seconds on the monotonic clock; the defaults are for a clinic's network."""

    window: int = 100
    """Events on their way to the broker at once; the broker's own limit may be lower, and so may the line's reach
    (`agent.sync.reach`)."""
    awaiting: int = 500
    """Events that the broker took and the cloud has not acknowledged, at most; fewer of a backlog where the cloud is
    slow (`agent.sync.allowance`). mosquitto queues 1000 for an absent consumer, and drops the rest."""
    awaiting_fresh: int = 200
    """As many more of them may be fresh, so that an absent cloud does not hold up today's (F20)."""
    deferred: int = 2000
    """Events left alone for a while (refused, or of a topic that is)."""

    keepalive_s: int = 30
    connect_s: float = 10.0
    """For the connection and the TLS handshake, each."""
    greeting_s: float = 15.0
    """From there to the broker's greeting and its word on our subscriptions."""
    puback_s: float = 60.0
    """A broker that took nothing for so long is not there, whatever TCP says."""
    acknowledge_s: float = 30.0
    """From the broker's word to the cloud's, before an event is sent again; doubles each time."""
    acknowledge_cap_s: float = 900.0

    reconnect_base_s: float = 4.0
    """A thousand devices that a broker's restart threw out come back over this long (F17)."""
    reconnect_cap_s: float = 120.0
    stable_s: float = 60.0
    """Of a connection, before earlier failures are forgotten (F17)."""
    hold_base_s: float = 5.0
    """A topic that the broker refuses, or that nobody listens to, is left alone so long; doubles each time."""
    hold_cap_s: float = 300.0
    blame_s: float = 5.0
    """A connection that the broker closed so soon after it got one event alone was closed for that event (F21)."""
    blames: int = 5
    """Closed connections that an event may be blamed for before it is given up."""
    refusals: int = 10
    """Refusals of an event by the broker before it is given up."""
    look_s: float = 30.0
    """Between two looks into the outbox without being told of something new."""
    session_s: int = 30 * 24 * 3600
    """How long the broker keeps what comes down for a device that is away."""
