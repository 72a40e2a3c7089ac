"""The golden image on one engine, in a worker process of its own: the same proof that the agent asks for (F12)."""

from __future__ import annotations

from engines.backend import BackendSpec, BundleError, EngineError
from engines.bundle import Bundle
from engines.golden import golden_check
from engines.proven import ProvenEngine, WorkerSettings


def self_test(spec: BackendSpec, bundle: Bundle, settings: WorkerSettings) -> str | None:
    """Open the engine and run the golden image; None where the numbers are right, else what is wrong."""
    engine: ProvenEngine | None = None
    try:
        golden = golden_check(bundle)
        engine = ProvenEngine(spec, golden, settings)
        engine.prove()
    except (EngineError, BundleError) as error:
        return str(error)
    finally:
        if engine is not None:
            engine.process.kill()
    return None
