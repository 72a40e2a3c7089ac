"""Compiling in a process of its own: whatever becomes of that process, the caller is told and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from engines.tensorrt.apart import Request, compile_apart
from engines.tensorrt.gpu import Gpu
from engines.tensorrt.plans import PlanError, compile_lock
from engines.trust.verifying import Trust

T4 = Gpu("Tesla T4", (7, 5), 16 << 30, "550.54")
ROOT = Path(__file__).resolve().parents[3]
BINDINGS = """\
import enum, os, signal, sys, time
__version__ = "10.3.0"
NetworkDefinitionCreationFlag = enum.IntEnum("Kinds", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1})
BuilderFlag = enum.Enum("BuilderFlag", ["FP16", "OBEY_PRECISION_CONSTRAINTS", "TF32"])
class ILogger:
    Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])
class IBuilderConfig: pass
class OnnxParser: pass
class Runtime: pass
class Builder:
    def __init__(self, logger):
        print("TensorRT's own words", file=sys.stderr, flush=True)
"""


@pytest.fixture
def request_with(tmp_path: Path, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """A request that meets a TensorRT whose builder does this."""

    def make(*lines: str) -> Request:
        folder = tmp_path / "path"
        folder.mkdir()
        (folder / "tensorrt.py").write_text(BINDINGS + textwrap.indent("\n".join(lines), " " * 8) + "\n")
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return Request(demo_bundle, tmp_path / "cache", gpu=T4, niceness=0)

    return make


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"TensorRT crashed \(SIGSEGV\) while it compiled; .*own words"),
        ("os.abort()", r"TensorRT crashed \(SIGABRT\)"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"was killed, most often .* for want of memory.*--max-batch.*own words",
        ),
        ("os._exit(3)", r"TensorRT ended with status 3 while it compiled"),
        ("raise SystemError('odd')", r"compiling failed \(SystemError: odd\); .*--verbose"),
        ("raise MemoryError", r"TensorRT 10\.3\.0 failed: MemoryError"),
    ],
)
def test_an_end_is_told_in_words(request_with, line: str, words: str) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        compile_apart(request_with(line))
    assert "\n" not in str(caught.value)


def test_the_cache_is_free_again_after_a_crash(request_with) -> None:
    request = request_with("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(PlanError):
        compile_apart(request)
    with compile_lock(request.cache, lambda: pytest.fail("somebody still holds the cache")):
        pass


def test_an_interrupted_caller_ends_the_compilation(request_with, tmp_path: Path) -> None:
    """As Ctrl-C does it: the exception is raised where the caller reads progress."""
    request = request_with(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))", "time.sleep(60)")

    def interrupt(what: str, share: float | None) -> None:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_apart(request, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_killed_caller_takes_the_compilation_with_it(request_with, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    request = request_with(f"self.held = open({str(pipe)!r}, 'w')", "time.sleep(60)")
    script = f"""
        from pathlib import Path
        from engines.tensorrt.apart import *
        compile_apart(Request(Path({str(request.bundle)!r}), Path({str(request.cache)!r}), gpu={T4!r}, niceness=0))
        """
    caller = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT)
    ended = threading.Event()

    def wait_for_the_end() -> None:
        with pipe.open() as held:  # opens once the compilation has, and ends with it
            caller.send_signal(signal.SIGKILL)
            held.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    assert ended.wait(20)
    assert caller.wait() == -signal.SIGKILL


def test_trust_travels(tmp_path: Path, demo_bundle: Path) -> None:
    from engines.backend import BundleError

    request = Request(demo_bundle, tmp_path, gpu=T4, trust=Trust(tmp_path / "trust", require_trusted=True))
    with pytest.raises(BundleError, match="demonstration key"):
        compile_apart(request)
