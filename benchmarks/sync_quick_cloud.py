"""A cloud that costs next to nothing: says that it has committed each event, and keeps none.

Beside it the publisher is what is measured. It is no cloud to learn from: it acknowledges what it has thrown away.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections import defaultdict

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.messages.catalogue import ACK
from agent.messages.envelope import Sender, event_bytes
from cloud.acks import MAX_IDS, MAX_WAIT_S


class QuickCloud:
    """Hears results at a broker, and acknowledges them in the reference cloud's batches."""

    def __init__(self, host: str, port: int, ca: str, cert: str, key: str) -> None:
        self._waiting: defaultdict[str, list[str]] = defaultdict(list)
        self._changed = threading.Condition()
        self._client = Client(CallbackAPIVersion.VERSION2, "cloud", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.tls_set(ca, cert, key)
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = lambda client, *_: client.subscribe("$share/cloud/dermascan/v1/+/+/results", qos=1)
        self._client.on_subscribe = lambda *_: print("hears", flush=True)
        self._client.on_message = self._heard
        self._client.connect(host, port)

    def _heard(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        payload = message.payload
        begin = payload.rindex(b'"id":"') + 6
        event_id = payload[begin : payload.index(b'"', begin)].decode()
        with self._changed:
            ids = self._waiting[message.topic]
            ids.append(event_id)
            if len(ids) in (1, MAX_IDS):
                self._changed.notify()

    def run(self) -> None:
        """Until it is ended."""
        self._client.loop_start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                self._changed.wait_for(lambda: any(len(ids) >= MAX_IDS for ids in self._waiting.values()), MAX_WAIT_S)
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
                self._client.publish(f"dermascan/v1/{clinic_id}/{device_id}/{ACK.topic}", payload, qos=1)


if __name__ == "__main__":
    _, host, port, ca, cert, key = sys.argv
    QuickCloud(host, int(port), ca, cert, key).run()
