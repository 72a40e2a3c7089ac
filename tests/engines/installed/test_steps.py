"""The way to provisional: what is not signed, verified and self-tested on this device never gets there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engines.backend import BundleError
from engines.bundle import Bundle, load_bundle
from engines.installed.activation import NotAllowed, Stage, commit
from engines.installed.ledger import Ledger
from engines.installed.steps import DidNotPass, Order, activate, go_back
from engines.trust.verifying import DEMO_TRUST, Trust
from engines.verification.gates import Gate, Outcome, Unit, Verdict
from engines.verification.record import Verification, to_json
from tests.fakes.bundles import copy_bundle, new_version, replace_file, small_bundle, wrong_golden


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / "models").mkdir()
    return Ledger(tmp_path / "models")


@pytest.fixture
def order(tmp_path: Path, demo_bundle: Path) -> Order:
    return Order(str(small_bundle(demo_bundle, tmp_path / "outside" / "demo" / "1.2.0")), DEMO_TRUST)


def passes(_bundle: Bundle) -> None:
    """A self-test for bundles that hold no model."""


def record(bundle: Bundle, verdict: Verdict, manifest_sha256: str | None = None) -> None:
    outcome = Outcome.UNMET if verdict is Verdict.FAILED else Outcome.MET
    verification = Verification(
        verdict=verdict,
        bundle=bundle.label,
        model_sha256=bundle.model_sha256,
        manifest_sha256=manifest_sha256 or bundle.manifest_sha256,
        engine={"backend": "cpu"},
        reference="cpu",
        threshold=0.5,
        gates=(Gate("melanoma sensitivity", "> 90 %", Unit.SHARE, outcome),),
        self_test=None,
        pictures=None,
        picture_set=None,
        latency_p50_ms=None,
        farthest_picture=None,
        failure=None,
        versions={},
        hardware={},
        verified_at="2026-03-04T05:06:07+00:00",
        duration_s=1.0,
    )
    (bundle.folder / "verification.json").write_text(to_json(verification))


@pytest.mark.fault("F27")
def test_each_step_is_told_and_written_down_before_the_next(ledger: Ledger, order: Order) -> None:
    stages: list[Stage | None] = []

    def tell(_sentence: str) -> None:
        candidate = ledger.read().candidate
        stages.append(candidate.stage if candidate else None)

    state = activate(ledger, order, test=passes, tell=tell)
    assert stages == list(Stage)
    assert state == ledger.read()
    assert state.candidate is not None
    assert state.candidate.verified_by == "signature and hashes (no verification record)"
    assert state.active is None


@pytest.mark.fault("F14")
def test_a_real_engine_proves_the_real_bundle_and_a_wrong_one_is_given_up(
    ledger: Ledger, demo_bundle: Path, tmp_path: Path
) -> None:
    good = activate(ledger, Order(str(demo_bundle), DEMO_TRUST))
    assert good.provisional is not None
    ledger.change(lambda state: commit(state, good.provisional or state.failures[0].installed, "now"))
    new_version(demo_bundle, tmp_path / "outside", "9.0.0", wrong_golden)
    wrong = Order(str(tmp_path / "outside" / "demo" / "9.0.0"), DEMO_TRUST)
    with pytest.raises(
        DidNotPass, match=r"demo/9.0.0: golden image: .* computes wrong numbers; the active bundle is as"
    ):
        activate(ledger, wrong)
    state = ledger.read()
    assert (state.active, state.candidate) == (good.provisional, None)
    assert (state.failures[-1].stage, state.failures[-1].installed.bundle) == (Stage.VERIFIED, "demo/9.0.0")
    with pytest.raises(NotAllowed, match=r"computes wrong numbers.* --again"):
        activate(ledger, Order("demo/9.0.0", DEMO_TRUST))
    again = Order("demo/9.0.0", DEMO_TRUST, again=True)
    assert activate(ledger, again, test=passes).provisional is not None


@pytest.mark.fault("F14")
@pytest.mark.parametrize("model", [b"", b"\x08\x0anot an ONNX file", b"PK\x03\x04" + bytes(5000)])
def test_a_model_that_is_none_is_given_up_in_words(
    ledger: Ledger, demo_bundle: Path, tmp_path: Path, model: bytes
) -> None:
    bundle = copy_bundle(demo_bundle, tmp_path / "outside" / "demo" / demo_bundle.name)
    replace_file(bundle, "model.onnx", model)
    with pytest.raises((DidNotPass, BundleError), match=r"model.onnx: (the file is empty|ONNX Runtime cannot load it)"):
        activate(ledger, Order(str(bundle), DEMO_TRUST))
    assert ledger.read().provisional is None


@pytest.mark.fault("F15")
def test_nothing_unsigned_or_signed_by_a_stranger_is_even_staged(ledger: Ledger, order: Order, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="require_trusted"):
        activate(ledger, Order(order.which, Trust(tmp_path / "trust", require_trusted=True)), test=passes)
    (Path(order.which) / "signature.json").unlink()
    with pytest.raises(BundleError, match="is not signed"):
        activate(ledger, order, test=passes)
    assert not ledger.path.exists()
    assert list(ledger.models.glob("*/*")) == []


@pytest.mark.fault("F27")
def test_a_bundle_exchanged_between_two_steps_does_not_get_through(ledger: Ledger, order: Order) -> None:
    def exchange(sentence: str) -> None:
        if sentence.startswith("staged"):
            replace_file(ledger.models / "demo" / "1.2.0", "model.onnx", b"another, signed")

    with pytest.raises(BundleError, match="another bundle lies here"):
        activate(ledger, order, test=passes, tell=exchange)
    candidate = ledger.read().candidate
    assert candidate is not None
    assert candidate.stage is Stage.STAGED


def test_what_is_no_bundle_is_said_so(ledger: Ledger, tmp_path: Path) -> None:
    for which in ("demo/1.2.0", "nowhere", str(tmp_path / "gone")):
        with pytest.raises(BundleError, match=r"is neither a bundle in .* nor a bundle's folder"):
            activate(ledger, Order(which, DEMO_TRUST), test=passes)
    with pytest.raises(BundleError, match=r"manifest.json: cannot be read"):
        activate(ledger, Order(str(tmp_path), DEMO_TRUST), test=passes)


def test_the_label_the_path_inside_and_the_path_outside_mean_the_same(ledger: Ledger, order: Order) -> None:
    first = activate(ledger, order, test=passes)
    for which in ("demo/1.2.0", str(ledger.models / "demo" / "1.2.0")):
        with pytest.raises(NotAllowed, match="is provisional already"):
            activate(ledger, Order(which, DEMO_TRUST), test=passes)
    assert ledger.read() == first


@pytest.mark.parametrize(
    ("verdict", "ground"),
    [(Verdict.PASSED, "verification of 2026-03-04: passed"), (Verdict.INCOMPLETE, "2026-03-04: incomplete")],
)
def test_a_verification_record_is_what_it_rests_on(ledger: Ledger, order: Order, verdict: Verdict, ground: str) -> None:
    record(load_bundle(Path(order.which)), verdict)
    candidate = activate(ledger, order, test=passes).candidate
    assert candidate is not None
    assert ground in candidate.verified_by


@pytest.mark.fault("F14")
def test_a_failed_verification_stops_it_and_a_person_may_answer_for_it(ledger: Ledger, order: Order) -> None:
    record(load_bundle(Path(order.which)), Verdict.FAILED)
    with pytest.raises(DidNotPass, match=r"its verification of 2026-03-04 failed \(melanoma sensitivity\)"):
        activate(ledger, order, test=passes)
    assert ledger.read().provisional is None
    despite = Order("demo/1.2.0", DEMO_TRUST, despite="Dr. Who, for the trade fair")
    candidate = activate(ledger, despite, test=passes).candidate
    assert candidate is not None
    assert "failed (melanoma sensitivity); activated despite that: Dr. Who, for the trade fair" in candidate.verified_by


def demand(order: Order) -> Order:
    return Order(order.which, DEMO_TRUST, require_verification=True)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda bundle: None, "no verification record; run: dermascan engine verify"),
        (lambda bundle: record(bundle, Verdict.PASSED, "f" * 64), "verification.json is of another bundle"),
        (lambda bundle: record(bundle, Verdict.INCOMPLETE), "its verification of 2026-03-04 is incomplete"),
        (lambda bundle: (bundle.folder / "verification.json").write_text("{"), r"verification.json: .*run again"),
    ],
)
def test_a_verification_may_be_demanded(
    ledger: Ledger, order: Order, prepare: Callable[[Bundle], object], words: str
) -> None:
    prepare(load_bundle(Path(order.which)))
    with pytest.raises(BundleError, match=words):
        activate(ledger, demand(order), test=passes)
    bundle = load_bundle(ledger.models / "demo" / "1.2.0")
    record(bundle, Verdict.PASSED)  # as engine verify would; what was missing is no failure of the bundle
    assert activate(ledger, demand(Order("demo/1.2.0", DEMO_TRUST)), test=passes).provisional is not None


@pytest.fixture
def two(ledger: Ledger, demo_bundle: Path) -> Ledger:
    """A bundle is active, and one was before it."""
    for version in ("1.0.0", "2.0.0"):
        small_bundle(demo_bundle, ledger.models / "demo" / version, version.encode())
        provisional = activate(ledger, Order(f"demo/{version}", DEMO_TRUST), test=passes).provisional
        assert provisional is not None
        ledger.change(lambda state, it=provisional: commit(state, it, "now"))  # type: ignore[misc]
    return ledger


def test_going_back_proves_the_old_bundle_first(two: Ledger) -> None:
    tested: list[str] = []
    state = go_back(two, DEMO_TRUST, test=lambda bundle: tested.append(bundle.label))
    assert tested == ["demo/1.0.0"]
    assert state.active is not None
    assert state.active.bundle == "demo/1.0.0"


def test_going_back_to_what_is_damaged_changes_nothing(two: Ledger) -> None:
    before = two.read()
    (two.models / "demo" / "1.0.0" / "model.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"model.onnx: the file was changed or damaged"):
        go_back(two, DEMO_TRUST, test=passes)
    assert two.read() == before


@pytest.mark.fault("F14")
def test_going_back_to_what_fails_its_self_test_changes_nothing(two: Ledger) -> None:
    before = two.read()
    with pytest.raises(DidNotPass, match=r"demo/1.0.0: .*the active bundle is as it was"):
        go_back(two, DEMO_TRUST)  # there is no model in it
    assert two.read() == before


def test_going_back_while_somebody_else_activates_is_refused(two: Ledger, order: Order) -> None:
    with pytest.raises(BundleError, match="was changed meanwhile"):
        go_back(two, DEMO_TRUST, test=lambda _: activate(two, order, test=passes))  # type: ignore[arg-type,return-value]
    assert two.read().provisional is not None


@pytest.mark.fault("F27")
def test_the_self_tests_process_ends_with_the_command(demo_bundle: Path, ledger: Ledger) -> None:
    """SIGKILL while the engine loads: no process is left, and the state is one from which to begin again."""
    root = Path(__file__).resolve().parents[3]
    code = (
        "import sys; from pathlib import Path\n"
        "from engines.installed.ledger import Ledger; from engines.installed.steps import Order, activate\n"
        "from engines.trust.verifying import DEMO_TRUST\n"
        "activate(Ledger(Path(sys.argv[1])), Order(sys.argv[2], DEMO_TRUST))"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen([sys.executable, "-c", code, str(ledger.models), str(demo_bundle)], env=environment)
    deadline = time.monotonic() + 20
    children: list[psutil.Process] = []
    while not children and time.monotonic() < deadline and process.poll() is None:
        children = psutil.Process(process.pid).children()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert children, "the self-test never began"
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    candidate = ledger.read().candidate
    assert candidate is not None
    assert candidate.stage is Stage.VERIFIED
    assert activate(ledger, Order(f"demo/{demo_bundle.name}", DEMO_TRUST), test=passes).provisional is not None
