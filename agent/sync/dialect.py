"""Which version of MQTT a broker is spoken to in: 5, and 3.1.1 where it knows no 5."""

from __future__ import annotations

from typing import Final

from paho.mqtt.enums import MQTTProtocolVersion

from agent.sync.happenings import MUTE, Lost

MQTT5: Final = MQTTProtocolVersion.MQTTv5
MQTT311: Final = MQTTProtocolVersion.MQTTv311
UNSUPPORTED_VERSION: Final = 0x84
MUTE_CLOSES: Final = 2
"""Connections that a broker may close without a word before the other version is tried, once."""


class Dialect:
    """What has been found out about the broker so far."""

    def __init__(self) -> None:
        self.version = MQTT5
        self._mute = 0

    @property
    def name(self) -> str:
        """``5`` or ``3.1.1``."""
        return "5" if self.version is MQTT5 else "3.1.1"

    def understood(self) -> None:
        """It greeted us."""
        self._mute = 0

    def turned_away(self, code: int) -> None:
        """It answered with this reason code."""
        if code == UNSUPPORTED_VERSION:
            self.version = MQTT5 if self.version is MQTT311 else MQTT311

    def lost_before_a_greeting(self, lost: Lost) -> None:
        """It ended the connection instead of greeting; without a word it may know 3.1.1 only."""
        if lost.sentence == MUTE:
            self._mute += 1
            self.version = MQTT311 if self._mute % (MUTE_CLOSES + 1) == MUTE_CLOSES else MQTT5
