"""A broker, a cloud and publishers that are ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.sync.publisher import Publisher
from tests.fakes.broker import Broker
from tests.fakes.certificates import CertificateAuthority
from tests.sync import parts
from tests.sync.parts import FakeOutbox, SmallCloud


@pytest.fixture
def outbox() -> FakeOutbox:
    return FakeOutbox()


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "ca")


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    made: list[Broker] = []

    def make(ca: CertificateAuthority | None = None, **more: Any) -> Broker:
        made.append(Broker(tmp_path / f"broker-{len(made)}", ca, **more))
        return made[-1].start()

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """Plain, on loopback."""
    return make_broker()


@pytest.fixture
def make_publisher() -> Iterator[Callable[..., Publisher]]:
    made: list[Publisher] = []

    def make(*arguments: Any, **more: Any) -> Publisher:
        made.append(parts.publisher(*arguments, **more))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def make_cloud() -> Iterator[Callable[..., SmallCloud]]:
    made: list[SmallCloud] = []

    def make(*arguments: Any, **more: Any) -> SmallCloud:
        made.append(SmallCloud(*arguments, **more))
        assert made[-1].subscribed.wait(10.0), "the cloud did not come to subscribe"
        return made[-1]

    yield make
    for cloud in made:
        cloud.close()
