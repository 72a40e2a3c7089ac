"""The child process that gets a plan ready: probe, find or compile, verify. ``python -m engines.tensorrt.prepare``.

Compiling takes minutes and all cores, TensorRT is native code that may crash, and a GPU's driver may hang: none of it
happens in the agent. Started by ``engines.tensorrt.preparation``, which see for the lines that are exchanged.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from engines.tensorrt import gpu as cuda_gpu
from engines.tensorrt.gpu import NoGpu
from engines.tensorrt.preparation import Order

if TYPE_CHECKING:  # imported where they are used: without a GPU nothing of this is loaded
    from engines.bundle import Bundle
    from engines.tensorrt.gpu import Gpu
    from engines.tensorrt.plans import Plan
    from engines.tensorrt.versions import TensorRT

_PR_SET_PDEATHSIG: Final = 1
_KEPT: Final = 2
_NICENESS: Final = 10
"""The agent answers meanwhile, on the same cores."""
Tell = Callable[[str, "float | None"], None]


class Unproved(Exception):
    """A plan gives wrong answers, or cannot be opened; ``fresh``: although it was compiled just now."""

    def __init__(self, message: str, *, fresh: bool) -> None:
        super().__init__(message)
        self.fresh = fresh


def _bundle(order: Order) -> Bundle:
    from engines.backend import BundleError
    from engines.bundle import read_unsigned_bundle

    bundle = read_unsigned_bundle(order.bundle)
    if bundle.manifest_sha256 != order.manifest_sha256:  # the agent verified the signature over exactly these bytes
        raise BundleError(f"{order.bundle}: the bundle was exchanged since the agent checked it; restart the agent")
    return bundle


def _proved(bundle: Bundle, plan: Plan, tensorrt: TensorRT, gpu: Gpu, *, graphs: bool) -> str | None:
    """Verify a plan on this device against the FP32 reference; None where it passed, else why not (F14)."""
    from engines.tensorrt.backend import about, note_of, open_plan
    from engines.verification import first_load

    try:
        engine = open_plan(plan, tensorrt, gpu, graphs=graphs)
    except NoGpu:
        raise
    except Exception as error:  # noqa: BLE001 - pycuda's and TensorRT's own: a plan that does not open is not proved
        return f"it cannot be opened ({type(error).__name__}: {' '.join(str(error).split())})"
    try:
        result = first_load(bundle, engine, about=about(plan), note=note_of(plan))
    finally:
        engine.close()
    return None if result.passed else "; ".join(result.reasons)


def _tidy(order: Order, plan: Plan) -> None:
    """Remove old plans, of 180 MB each, but for the newest others: what a rollback or the next activation asks for."""
    from engines.tensorrt.plans import prune_plans

    others = [folder for folder in plan.folder.parent.glob("[0-9a-f]*") if folder != plan.folder and folder.is_dir()]
    others.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    prune_plans(order.cache, {plan.folder.name, *(folder.name for folder in others[:_KEPT])})


def prepare(order: Order, tell: Tell) -> dict[str, Any]:
    """Find or compile a plan and prove it; returns the worker's options, what it is, and what should be known.

    Raises:
        NoGpu: there is none to use.
        NoTensorRT: there is none to use.
        PlanError: it cannot be compiled or kept.
        BundleError: the bundle cannot be used.
        Unproved: the plan gives wrong answers.
    """
    cuda_gpu.probe()

    from engines.tensorrt.backend import about, note_of, open_gpu, options_for
    from engines.tensorrt.builder import compile_plan
    from engines.tensorrt.order import CompileOrder, plan_key
    from engines.tensorrt.plans import PlanError, find_plan
    from engines.verification import passed_before

    gpu, tensorrt = open_gpu()
    bundle, compile_order, notes = _bundle(order), CompileOrder(max_batch=order.max_batch), []
    plan, anew = None, order.anew
    try:
        plan = find_plan(order.cache, plan_key(bundle, compile_order, tensorrt=tensorrt, gpu=gpu))
    except PlanError as error:
        anew = True
        notes.append(f"{error}; it was compiled anew")
    fresh = plan is None or anew
    if plan is None or fresh:
        tell("compiling the model for this GPU", None)
        plan = compile_plan(bundle, compile_order, tell, cache=order.cache, tensorrt=tensorrt, gpu=gpu, force=anew)
    if fresh or order.doubted or not passed_before(note_of(plan), bundle, about(plan)):
        tell("verifying the compiled model against the reference", None)
        why = _proved(bundle, plan, tensorrt, gpu, graphs=order.graphs)
        if why is not None and fresh:
            raise Unproved(
                f"{tensorrt.label}'s engine of this model for {gpu.name} fails its verification: {why}; it may not"
                " answer; update TensorRT and the driver",
                fresh=True,
            )
        if why is not None:
            raise Unproved(f"{plan.folder}: the plan is wrong on this device: {why}; it is compiled anew", fresh=False)
    _tidy(order, plan)
    what = f"{bundle.label} compiled by {tensorrt.label} for {gpu.name}"
    return {"options": options_for(plan, order.cache, graphs=order.graphs), "what": what, "notes": notes}


def outcome(order: Order, tell: Tell) -> dict[str, Any]:
    """The same, with failures as data (see ``engines.tensorrt.preparation``)."""
    try:
        return prepare(order, tell)
    except NoGpu as error:
        return {"failed": str(error), "soon": True, "anew": False}
    except Unproved as error:
        return {"failed": str(error), "soon": not error.fresh, "anew": True}
    except Exception as error:  # noqa: BLE001 - whatever it is, the agent gets to know
        text = " ".join(str(error).split())
        typed = type(error).__module__.startswith("engines.")  # our own messages are whole sentences
        failed = text if typed and text else f"{type(error).__name__}: {text}"
        return {"failed": failed, "soon": False, "anew": False}


def _tie_to_parent(parent: int) -> None:
    """End with the agent: with its thread (the kernel's signal), and with its process (standard input)."""

    def wait() -> None:
        while os.read(0, 64):
            pass
        os._exit(1)

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def main() -> None:
    """Read the order, do it, and print lines of JSON: progress, then the outcome."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints does not mix with the answers
    logging.basicConfig(level=logging.WARNING, format="tensorrt: %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the agent decides when this ends
    order = Order.from_json(sys.stdin.readline())
    _tie_to_parent(int(sys.argv[1]))
    os.setpriority(os.PRIO_PROCESS, 0, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))

    def tell(doing: str, share: float | None) -> None:
        print(json.dumps({"doing": doing, "share": share}), file=answers)

    print(json.dumps(outcome(order, tell)), file=answers)
    answers.flush()
    os._exit(0)  # a GPU's libraries may hang or crash on their way out, and nothing is left to say


if __name__ == "__main__":
    main()
