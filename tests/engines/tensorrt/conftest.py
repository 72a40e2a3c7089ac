"""The pretended card, for the tests of what runs on one."""

from __future__ import annotations

import sys

import pytest

from tests.fakes import pretended_gpu
from tests.fakes.fake_gpu import Card, reset


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """An unused card, with cuda-bindings installed."""
    for name, module in pretended_gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for path, value in pretended_gpu.attributes().items():
        monkeypatch.setattr(path, value)
    return reset()


@pytest.fixture
def no_cuda_bindings(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device where cuda-bindings is not installed."""
    for name, module in pretended_gpu.modules(graphs=False).items():
        monkeypatch.setitem(sys.modules, name, module)
