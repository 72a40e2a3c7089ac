"""Two network namespaces of the test's own, and a wire between them that delays, loses or swallows packets.

The wire is a TUN device at each end and a thread that carries the packets across: what ``tc netem`` does, also where
the kernel has none. A packet that is lost is lost without a word: no FIN, no RST, no ICMP. Needs root, ``ip`` and TUN.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

from typing_extensions import Self

DEVICE: Final = "10.77.0.2"
"""Address of the device's end."""
CLOUD: Final = "10.77.0.1"
"""Address of the broker's end."""
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x0001 | 0x1000
_CLONE_NEWNET: Final = 0x40000000
_CONGESTION: Final = "/proc/sys/net/ipv4/tcp_congestion_control"


class NoNamespaces(Exception):
    """Network namespaces cannot be made here; one sentence says why."""


class Wire:
    """A context manager; ``delay_s``, ``loss`` and ``black_hole`` may be changed at any time."""

    def __init__(self, seed: int = 0) -> None:
        self.delay_s = 0.0
        """One way, in each direction."""
        self.loss = 0.0
        """Share of the packets, in each direction."""
        self.black_hole = False
        self.carried = self.lost = 0
        self._rng = random.Random(seed)
        self._names = {end: f"dermascan-{os.getpid()}-{end}" for end in ("device", "cloud")}
        self._tuns: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)

    def within(self, end: str) -> tuple[str, ...]:
        """Words before a command that run it at this end, ``device`` or ``cloud``."""
        return ("ip", "netns", "exec", self._names[end])

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise NoNamespaces("network namespaces need root")
        if shutil.which("ip") is None:
            raise NoNamespaces("ip is not installed (Debian: apt-get install iproute2)")
        if not Path("/dev/net/tun").exists():
            raise NoNamespaces("this kernel has no TUN devices")
        try:
            for end, address in (("device", DEVICE), ("cloud", CLOUD)):
                name = self._names[end]
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
                # Of those that a namespace may choose the one that suffers most from losses: some machines have BBR.
                reno = f"echo reno > {_CONGESTION}"
                subprocess.run([*self.within(end), "sh", "-c", reno], stderr=subprocess.DEVNULL, check=False)
                self._tuns.append(_open_tun(name))
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
                _ip("-n", name, "link", "set", "wire", "up")
        except BaseException:
            self._clear()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._clear()

    def _clear(self) -> None:
        for tun in self._tuns:
            os.close(tun)
        for name in self._names.values():
            with contextlib.suppress(NoNamespaces):
                _ip("netns", "del", name)

    def _carry(self) -> None:
        """Packets in the order of their time, as a wire with a constant delay keeps them."""
        first, second = self._tuns
        other = {first: second, second: first}
        order = itertools.count()
        going: list[tuple[float, int, int, bytes]] = []
        while not self._over.is_set():
            wait_s = 0.05 if not going else min(0.05, max(0.0, going[0][0] - time.monotonic()))
            for tun in select.select(self._tuns, [], [], wait_s)[0]:
                with contextlib.suppress(BlockingIOError):
                    packet = os.read(tun, 65536)
                    if self.black_hole or self._rng.random() < self.loss:
                        self.lost += 1
                    else:
                        heapq.heappush(going, (time.monotonic() + self.delay_s, next(order), other[tun], packet))
            while going and going[0][0] <= time.monotonic():
                _, _, tun, packet = heapq.heappop(going)
                self.carried += 1
                with contextlib.suppress(OSError):  # its queue is full: a packet more that is lost
                    os.write(tun, packet)


def _ip(*words: str) -> None:
    done = subprocess.run([shutil.which("ip") or "ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNamespaces(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _enter(namespace: str) -> None:
    """Put this thread into a network namespace (``os.setns`` is younger than our oldest Python)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", namespace).open("rb") as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def _open_tun(namespace: str) -> int:
    """A TUN device called ``wire`` in a namespace, as a descriptor that works from everywhere.

    On a thread of its own, which enters the namespace and never comes back.
    """
    outcome: list[int | OSError] = []

    def make() -> None:
        try:
            _enter(namespace)
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH14x", b"wire", _IFF_TUN_NO_PI))
            except OSError:
                os.close(tun)
                raise
            outcome.append(tun)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (result,) = outcome
    if isinstance(result, OSError):
        raise NoNamespaces(f"no TUN device in a network namespace: {result.strerror}") from result
    return result
