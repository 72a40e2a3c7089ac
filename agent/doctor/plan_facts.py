"""What is true of TensorRT and of the compiled plan here: ``python -m agent.doctor.plan_facts``, one JSON object.

A process of its own: TensorRT is native code that may crash where the driver is broken (F13). Nothing is compiled.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def facts(bundle_folder: Path, cache: Path) -> dict[str, Any]:
    """``{"tensorrt", "plan", "options"}``, or with what keeps it from working: ``{"stage", "fault"}``."""
    from engines.bundle import read_unsigned_bundle
    from engines.tensorrt.backend import about, note_of, open_gpu, options_for
    from engines.tensorrt.gpu import NoGpu
    from engines.tensorrt.order import CompileOrder, plan_key
    from engines.tensorrt.plans import PlanError, find_plan
    from engines.tensorrt.preparation import Order
    from engines.tensorrt.versions import NoTensorRT, find_tensorrt
    from engines.verification import passed_before

    told: dict[str, Any] = {}
    try:
        told["tensorrt"] = find_tensorrt().label
        gpu, tensorrt = open_gpu()
        bundle = read_unsigned_bundle(bundle_folder)  # its signature was checked by who asks
        max_batch = Order(bundle_folder, bundle.manifest_sha256, cache).max_batch
        plan = find_plan(cache, plan_key(bundle, CompileOrder(max_batch=max_batch), tensorrt=tensorrt, gpu=gpu))
    except NoTensorRT as error:
        return told | {"stage": "tensorrt", "fault": str(error)}
    except NoGpu as error:
        return told | {"stage": "gpu", "fault": str(error)}
    except PlanError as error:
        return told | {"stage": "owner" if "others may have written" in str(error) else "plan", "fault": str(error)}
    if plan is None:
        return told | {"stage": "plan", "fault": "The model was not compiled for this GPU yet"}
    if not passed_before(note_of(plan), bundle, about(plan)):
        return told | {"stage": "plan", "fault": "The compiled plan has not passed its verification on this device"}
    return told | {"plan": plan.folder.name[:12], "options": options_for(plan, cache)}


def main() -> None:
    """Read ``{"bundle", "cache"}`` from the standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints does not mix with the answer
    asked = json.loads(sys.stdin.read())
    print(json.dumps(facts(Path(asked["bundle"]), Path(asked["cache"]))), file=answers, flush=True)
    os._exit(0)  # a GPU's libraries may crash on their way out


if __name__ == "__main__":
    main()
