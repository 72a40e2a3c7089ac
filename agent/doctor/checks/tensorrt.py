"""TensorRT, and whether the compiled plan is this device's, whole and proved (F14, F15)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agent.doctor.finding import Check, Finding, failed, in_two, ok, skipped, warning
from agent.doctor.place import Place
from agent.doctor.self_test import self_test
from agent.model import choose_bundle
from agent.records.reading import agent_seems_to_run
from engines.backend import BackendSpec, BundleError
from engines.bundle import Bundle
from engines.proven import WorkerSettings

COMMAND: Final = (sys.executable, "-m", "agent.doctor.plan_facts")
_ROOT: Final = Path(__file__).resolve().parents[3]
_ASK_S: Final = 60.0
_FACTORY: Final = "engines.tensorrt.backend:open_backend"
_ITSELF: Final = "the agent compiles it by itself and answers without it meanwhile: ask again in half an hour"


def look(place: Place) -> Iterator[Finding]:
    """Everything of TensorRT is asked in a child process."""
    if "tensorrt" not in place.config.inference.ladder:
        yield skipped("The settings use no TensorRT.")
        return
    try:
        bundle = choose_bundle(place.config.inference)
    except BundleError:
        yield skipped("Not looked at: the model cannot be used.")
        return
    cache = place.state_dir / "cache"
    facts = ask(bundle, cache)
    if (label := facts.get("tensorrt")) is not None:
        yield ok(f"{label} is installed.")
    if (fault := facts.get("fault")) is not None:
        yield _fault(facts["stage"], fault)
        return
    yield ok(f"The compiled plan is this device's, whole and proved ({facts['plan']}).")
    if agent_seems_to_run(place.state_dir):
        yield ok("The running agent holds the golden image against the GPU.")
    else:
        yield from _golden(bundle, facts["options"])


def _fault(stage: str, fault: str) -> Finding:
    sentence, remedy = in_two(fault, _ITSELF)
    if stage == "gpu":
        return skipped("The compiled plan cannot be judged without a GPU.")
    if stage == "tensorrt":
        return warning(f"No TensorRT: {sentence}.", remedy)
    if stage == "owner":
        return failed(sentence, remedy)
    return warning(sentence, _ITSELF)


def ask(bundle: Bundle, cache: Path) -> dict[str, Any]:
    """What `agent.doctor.plan_facts` tells; a crash is a fault like others."""
    order = json.dumps({"bundle": str(bundle.folder), "cache": str(cache)})
    try:
        done = subprocess.run(
            COMMAND, input=order, capture_output=True, text=True, timeout=_ASK_S, cwd=_ROOT, check=False
        )
        facts: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"stage": "tensorrt", "fault": f"TensorRT gave no answer within {_ASK_S:.0f} s; restart the device"}
    except ValueError:
        how = f"ended in signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        return {"stage": "tensorrt", "fault": f"asking TensorRT {how}; install TensorRT and the driver again"}
    return facts


def _golden(bundle: Bundle, options: dict[str, Any]) -> Iterator[Finding]:
    spec = BackendSpec("tensorrt", _FACTORY, bundle.folder, options)
    fault = self_test(spec, bundle, WorkerSettings(start_timeout_s=_ASK_S))
    if fault is None:
        yield ok("The golden image gives the right numbers on the GPU.")
    else:
        sentence, remedy = in_two(fault, "restart the device; if it comes again, the GPU computes wrongly")
        yield failed(f"The self-test failed on the GPU: {sentence}.", remedy)


CHECK = Check(
    name="tensorrt",
    title="TensorRT and plan",
    looks_at="the installed TensorRT, the compiled plan's key, bytes, owner and verification, the golden image on it",
    why="A plan of another GPU, driver or TensorRT can answer wrongly; one that others can write is foreign code.",
    look=look,
    limit_s=150.0,
    hung="TensorRT does not answer: restart the device",
)
