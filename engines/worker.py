"""The worker process: owns one backend, runs what the agent sends, and never outlives the agent.

Started by ``engines.process`` as ``python -m engines.worker SOCKET_FD PARENT_PID``, with the lifeline pipe as its
standard input. It answers one request at a time, in order, and judges nothing: the agent does.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from engines.backend import Backend, EngineError, Images, Output, RemoteBackend
from engines.wire import Channel

_PR_SET_PDEATHSIG: Final = 1
_PAGE: Final = resource.getpagesize()


def resident_bytes() -> int:
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def find_factory(factory: str) -> Callable[..., Backend]:
    """The function that ``"package.module:function"`` or ``"/path/to/file.py:function"`` names."""
    where, _, function = factory.rpartition(":")
    if where.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(where).stem, where)
        if spec is None or spec.loader is None:
            raise ImportError(f"{where}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(where)
    found: Callable[..., Backend] = getattr(module, function)
    return found


def _hold_lifeline() -> None:
    """Wait for the parent's end of standard input to close, which it does however the parent ends; then end at once."""
    while os.read(0, 64):
        pass
    os._exit(0)


def _tie_to_parent(parent: int) -> None:
    """End with the parent, whatever this process is doing.

    The thread on the lifeline ends the process while the backend computes or sleeps, but cannot run while a library
    hangs with the interpreter's lock held. For that the kernel is asked to send SIGKILL when the parent's thread ends.
    """
    threading.Thread(target=_hold_lifeline, name="lifeline", daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(0)


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, EngineError):
        return text[:600]  # a sentence of ours
    return f"{type(error).__name__}: {text}"[:600] if text else type(error).__name__


def _run(backend: Backend, head: dict[str, Any], images: Images) -> Output:
    if isinstance(backend, RemoteBackend):
        return backend.run_for(images, tuple(head["patients"]), float(head["within_s"]))
    return backend.run(images)


def _serve(channel: Channel, backend: Backend) -> None:
    """Run requests until the agent closes its end."""
    while True:
        try:
            head, (images,) = channel.receive()
        except (EOFError, OSError):
            return
        try:
            output = _run(backend, head, images)
            arrays = [output.probabilities, output.attention]
            for array in arrays:
                if array.dtype != np.float32:
                    raise TypeError(f"the backend returned {array.dtype}, not float32")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent gets to know and ends this process
            channel.send({"id": head["id"], "error": _sentence(error)})
            continue
        channel.send({"id": head["id"], "resident": resident_bytes()}, arrays)


def _open(order: dict[str, Any]) -> Backend:
    for entry in order["path"]:
        if entry not in sys.path:
            sys.path.append(entry)
    return find_factory(order["factory"])(Path(order["bundle"]), **order["options"])


def main() -> None:
    """Load the backend that the first message asks for, say so, and serve."""
    # The agent decides when its worker ends: neither Ctrl-C nor a service manager's signal to the whole group does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _tie_to_parent(int(sys.argv[2]))
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        order, _ = channel.receive()
        backend = _open(order)
    except Exception as error:  # noqa: BLE001 - the agent logs it and backs off
        channel.send({"id": 0, "error": _sentence(error)})
        return
    channel.send({"id": 0, "resident": resident_bytes()})
    _serve(channel, backend)
    backend.close()


if __name__ == "__main__":
    main()
