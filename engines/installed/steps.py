"""The way of a bundle to the point where the agent may try it: staged, verified, self-tested, provisional (F27)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from engines.backend import BackendSpec, BundleError, EngineError
from engines.bundle import Bundle
from engines.golden import golden_check
from engines.installed.activation import Activation, Installed, Stage, advance, give_up, roll_back, stage
from engines.installed.catalogue import VERIFICATION_NAME, identity, is_label, load_installed, load_labelled, take_in
from engines.installed.ledger import Ledger
from engines.proven import ProvenEngine, WorkerSettings
from engines.trust.verifying import Trust

SIGNATURE_AND_HASHES: Final = "signature and hashes"


class DidNotPass(Exception):
    """The bundle is whole and signed, and yet not fit to run here. The message says why; the active one goes on."""


@dataclass(frozen=True)
class Order:
    """What to activate, and on what terms."""

    which: str
    """``name/version`` of the models folder, or the path of a bundle's folder, which is then copied in."""
    trust: Trust
    again: bool = False
    """Also where it was given up before."""
    require_verification: bool = False
    """Refuse a bundle without a passed verification record."""
    despite: str | None = None
    """Why to go on although its verification record says that it failed; kept in the state."""


def now() -> str:
    """Wall time for the record."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def self_test(bundle: Bundle) -> None:
    """Run the golden image through a worker process of its own, on the CPU: the rung that every device has.

    Raises:
        EngineError: the engine cannot be opened, or computes other numbers.
        BundleError: the golden image cannot be read.
    """
    spec = BackendSpec("self-test", "engines.onnx_cpu:open_backend", bundle.folder, {"threads": 0})
    engine = ProvenEngine(spec, golden_check(bundle), WorkerSettings())
    try:
        engine.prove()
    except BaseException:
        engine.process.kill()
        raise
    engine.process.finish()


def activate(
    ledger: Ledger,
    order: Order,
    *,
    test: Callable[[Bundle], None] = self_test,
    tell: Callable[[str], None] = lambda _: None,
) -> Activation:
    """Take a bundle all the way to provisional; the agent then tries it and commits it, or goes back.

    Each step is written down before the next begins. Killed anywhere, the committed bundle is as it was, and the same
    command begins again.

    Args:
        ledger: of the models folder.
        order: what, and on what terms.
        test: the self-test.
        tell: is told of each step, in words.

    Raises:
        BundleError: the bundle, the folder or the order cannot be used.
        DidNotPass: its verification or its self-test failed; the state remembers it.
    """
    installed = _place(ledger.models, order)
    again = order.again or order.despite is not None
    ledger.change(lambda state: stage(state, installed, again=again))
    tell(f"staged: {installed.bundle} lies in {ledger.models}")
    try:
        bundle = load_installed(ledger.models, installed, order.trust)
        ground = _verification(bundle, order)
        ledger.change(lambda state: advance(state, installed, Stage.VERIFIED, verified_by=ground))
        tell(f"verified: {ground}")
        test(bundle)
        ledger.change(lambda state: advance(state, installed, Stage.SELF_TESTED))
        tell("self-tested: an engine on this device answers the golden image as it should")
    except (DidNotPass, EngineError) as error:
        reason = str(error)
        ledger.change(lambda state: give_up(state, installed, reason, now()))
        raise DidNotPass(f"{installed.bundle}: {reason}; the active bundle is as it was") from error
    state = ledger.change(lambda state: advance(state, installed, Stage.PROVISIONAL))
    tell("provisional: the agent tries it, and commits it once it has proved itself")
    return state


def _place(models: Path, order: Order) -> Installed:
    folder = Path(order.which)
    if is_label(order.which) and (models / order.which).is_dir():
        return identity(load_labelled(models, order.which, order.trust, check_hashes=False))
    if folder.resolve().parent.parent == models.resolve():
        label = "/".join(folder.resolve().parts[-2:])
        return identity(load_labelled(models, label, order.trust, check_hashes=False))
    if not folder.is_dir():
        raise BundleError(f"{order.which}: is neither a bundle in {models} nor a bundle's folder; see: engine list")
    return take_in(models, folder, order.trust)


def _verification(bundle: Bundle, order: Order) -> str:
    """What the verification rests on; signature and hashes have been checked by whoever loaded the bundle."""
    # Only here: it brings the figures' code with it, which the agent does not need.
    from engines.verification.gates import Outcome, Verdict
    from engines.verification.record import RecordError, read_record

    path = bundle.folder / VERIFICATION_NAME
    if not path.exists():
        return _unverified(bundle, order, "no verification record")
    try:
        record = read_record(path)
    except RecordError as error:
        raise BundleError(str(error)) from error
    on = record.verified_at[:10]
    if record.manifest_sha256 != bundle.manifest_sha256:
        return _unverified(bundle, order, f"{VERIFICATION_NAME} is of another bundle")
    if record.verdict is Verdict.FAILED:
        why = record.failure or "; ".join(gate.name for gate in record.gates if gate.outcome is Outcome.UNMET)
        if order.despite is None:
            raise DidNotPass(
                f"its verification of {on} failed ({why}); a person who answers for it may go on with --despite REASON"
            )
        return (
            f"{SIGNATURE_AND_HASHES}; its verification of {on} failed ({why}); activated despite that: {order.despite}"
        )
    if record.verdict is Verdict.INCOMPLETE and order.require_verification:
        return _unverified(bundle, order, f"its verification of {on} is incomplete")
    return f"{SIGNATURE_AND_HASHES}, verification of {on}: {record.verdict.value}"


def _unverified(bundle: Bundle, order: Order, why: str) -> str:
    if order.require_verification:
        raise BundleError(f"{bundle.folder}: {why}; run: dermascan engine verify {bundle.folder}")
    return f"{SIGNATURE_AND_HASHES} ({why})"


def go_back(
    ledger: Ledger,
    trust: Trust,
    *,
    test: Callable[[Bundle], None] = self_test,
    tell: Callable[[str], None] = lambda _: None,
) -> Activation:
    """Give up a candidate, or go back to the bundle that was committed before, after the same proofs.

    Raises:
        BundleError: there is nothing to go back to, or it cannot be used any more; nothing was changed then.
        DidNotPass: it fails its self-test now; nothing was changed.
    """
    state = ledger.read()
    after = roll_back(state)
    if state.candidate is None and after.committed is not None:
        bundle = load_installed(ledger.models, after.committed.installed, trust)
        try:
            test(bundle)
        except EngineError as error:
            raise DidNotPass(f"{bundle.label}: {error}; the active bundle is as it was") from error
        tell(f"self-tested: {bundle.label}")

    def step(now_is: Activation) -> Activation:
        if now_is != state:
            raise BundleError(f"{ledger.path}: was changed meanwhile; look at dermascan engine list, and begin again")
        return after

    return ledger.change(step)
