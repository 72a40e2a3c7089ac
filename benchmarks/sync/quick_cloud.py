"""A cloud that costs next to nothing: says that it has committed each event, and keeps none.

Beside it the publisher is what is measured. It is no cloud to learn from: it acknowledges what it has thrown away, and
speaks just as much MQTT 3.1.1 as it needs (with paho it needs as long to hear an event as the publisher to send one).
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
import time
import uuid
from collections import defaultdict
from typing import Final

from agent.messages.catalogue import ACK
from agent.messages.envelope import Sender, event_bytes
from cloud.acks import MAX_IDS, MAX_WAIT_S

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x82, 0x90
QOS_1: Final = 0x02
READ_BYTES: Final = 1 << 18


def length(size: int) -> bytes:
    """The remaining length of a packet (MQTT 3.1.1, 2.2.3)."""
    encoded = bytearray()
    while True:
        size, digit = divmod(size, 128)
        encoded.append(digit | 0x80 if size else digit)
        if not size:
            return bytes(encoded)


def text(content: str) -> bytes:
    """A string with its length before it (MQTT 3.1.1, 1.5.3)."""
    return len(content).to_bytes(2, "big") + content.encode()


class QuickCloud:
    """Hears results at a broker, at most once, and acknowledges them in the reference cloud's batches."""

    def __init__(self, host: str, port: int, ca: str, cert: str, key: str) -> None:
        self._waiting: defaultdict[str, list[str]] = defaultdict(list)
        self._number = 0
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(cert, key)
        self._socket = context.wrap_socket(socket.create_connection((host, port)), server_hostname=host)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(10.0)
        self._unread = bytearray()
        self._send(CONNECT, text("MQTT") + bytes((4, 2, 0, 0)) + text("cloud"))  # clean session, no keep-alive
        self._send(SUBSCRIBE, bytes((0, 1)) + text("dermascan/v1/+/+/results") + bytes((0,)))

    def _send(self, kind: int, content: bytes) -> None:
        self._socket.sendall(bytes((kind,)) + length(len(content)) + content)

    def run(self) -> None:
        """Until it is ended, or the broker is."""
        since = None
        while True:
            wait_s = None if since is None else max(0.0, since + MAX_WAIT_S - time.monotonic())
            if self._socket.pending() or select.select([self._socket], [], [], wait_s)[0]:
                self._read()
            if since is None and self._waiting:
                since = time.monotonic()
            overdue = since is not None and time.monotonic() >= since + MAX_WAIT_S
            if overdue or any(len(ids) >= MAX_IDS for ids in self._waiting.values()):
                self._acknowledge()
                since = None

    def _read(self) -> None:
        if not (read := self._socket.recv(READ_BYTES)):
            raise ConnectionError("the broker closed the connection")
        self._unread += read
        view, at = self._unread, 0
        while len(view) >= at + 2:
            size, place, shift = 0, at + 1, 0
            while place < len(view):
                size |= (view[place] & 0x7F) << shift
                place, shift = place + 1, shift + 7
                if view[place - 1] < 0x80:
                    break
            else:
                break
            if len(view) < place + size:
                break
            self._hear(view[at] & 0xF0, view, place, place + size)
            at = place + size
        del view[:at]

    def _hear(self, kind: int, packet: bytearray, begin: int, end: int) -> None:
        if kind == CONNACK and packet[begin + 1]:
            raise ConnectionError(f"the broker refuses the quick cloud ({packet[begin + 1]})")
        if kind == SUBACK:
            print("hears", flush=True)
        if kind == PUBLISH:
            payload = begin + 2 + int.from_bytes(packet[begin : begin + 2], "big")
            name = packet.rindex(b'"id":"', payload, end) + 6
            event_id = packet[name : packet.index(b'"', name)].decode()
            self._waiting[packet[begin + 2 : payload].decode()].append(event_id)

    def _acknowledge(self) -> None:
        waiting, self._waiting = self._waiting, defaultdict(list)
        for topic, ids in waiting.items():
            *_, clinic_id, device_id, _ = topic.split("/")
            payload = event_bytes(
                Sender(clinic_id, device_id, "0"),
                ACK,
                event_id=str(uuid.uuid4()),
                subject=device_id,
                seq=None,
                time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                data={"ids": ids},
            )
            self._number = self._number % 65535 + 1
            to = text(f"dermascan/v1/{clinic_id}/{device_id}/{ACK.topic}")
            self._send(PUBLISH | QOS_1, to + self._number.to_bytes(2, "big") + payload)


if __name__ == "__main__":
    _, host, port, ca, cert, key = sys.argv
    QuickCloud(host, int(port), ca, cert, key).run()
