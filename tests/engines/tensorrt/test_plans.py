"""A plan is found under exactly what made it, is believed only as it was written, and is there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from engines.tensorrt import plans
from engines.tensorrt.plan_key import PlanKey, device_id
from engines.tensorrt.plans import Plan, PlanError, compile_lock, find_plan, prune_plans, write_plan

KEY = PlanKey(
    model_sha256="a" * 64,
    source="model.fp16.onnx",
    source_sha256="b" * 64,
    product="tensorrt",
    version="10.3.0",
    gpu="Orin",
    compute_capability="8.7",
    driver="L4T 36.4",
    device="c" * 32,
    flags={"max_batch": "8", "precision": "fp16"},
)
DATA = os.urandom(10_000)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def write(cache: Path, key: PlanKey = KEY, data: bytes = DATA) -> Plan:
    with compile_lock(cache):
        return write_plan(cache, key, data, build_seconds=12.3456, built_at="2026-01-01T00:00:00+00:00", notes=("hm",))


def entries(cache: Path) -> set[str]:
    return {path.name for path in (cache / "plans").iterdir()}


def test_what_was_written_is_found_again(cache: Path) -> None:
    assert find_plan(cache, KEY) is None
    written = write(cache)
    found = find_plan(cache, KEY)
    assert found == written
    assert found.folder == cache / "plans" / KEY.digest
    assert found.read() == DATA
    assert (found.sha256, found.size_bytes) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert (found.build_seconds, found.notes) == (12.346, ("hm",))
    assert entries(cache) == {KEY.digest, ".lock"}


@pytest.mark.fault("F14")
@pytest.mark.parametrize("name", [name for name in asdict(KEY) if name != "recipe"])
def test_anything_else_is_another_plan(cache: Path, name: str) -> None:
    """A new JetPack, driver, GPU, model or setting: the old plan is not taken for it."""
    write(cache)
    value: Any = {"max_batch": "9", "precision": "fp16"} if name == "flags" else "other"
    other = replace(KEY, **{name: value})
    assert other.digest != KEY.digest
    assert find_plan(cache, other) is None


def test_the_key_does_not_depend_on_the_order_of_flags() -> None:
    turned = dict(reversed(list(KEY.flags.items())))
    assert replace(KEY, flags=turned).digest == KEY.digest
    assert replace(KEY, recipe=KEY.recipe + 1).digest != KEY.digest


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(len(DATA) - 8))


@pytest.mark.fault("F14")
@pytest.mark.fault("F15")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "has 9900 bytes, not 10000"),
        (empty, "has 0 bytes, not 10000"),
        (flip, "was changed or damaged"),
        (foreign, "was changed or damaged"),
        (Path.unlink, "is missing"),
    ],
)
def test_a_damaged_plan_is_not_believed(cache: Path, damage: Callable[[Path], object], words: str) -> None:
    plan = write(cache)
    damage(plan.path)
    with pytest.raises(PlanError, match=words) as caught:
        find_plan(cache, KEY)
    assert str(plan.path) in str(caught.value)
    assert "compile it again" in str(caught.value)


@pytest.mark.fault("F15")
def test_a_plan_exchanged_after_it_was_found_is_not_loaded(cache: Path) -> None:
    write(cache)
    found = find_plan(cache, KEY, check_hash=False)
    assert found is not None
    flip(found.path)
    with pytest.raises(PlanError, match="was changed or damaged"):
        found.read()
    found.path.unlink()
    with pytest.raises(PlanError, match="cannot be read"):
        found.read()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"schema_version": 2}'])
def test_a_damaged_record_is_named(cache: Path, text: bytes) -> None:
    plan = write(cache)
    (plan.folder / "plan.json").write_bytes(text)
    with pytest.raises(PlanError, match=r"plan\.json: .*compile it again"):
        find_plan(cache, KEY)


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "is for another GPU"),
        ("compute_capability", "is for another GPU"),
        ("version", "is for another TensorRT"),
        ("driver", "is for another driver"),
        ("device", "is for another device"),
        ("model_sha256", "is for another model"),
        ("source_sha256", "is for another model"),
    ],
)
def test_a_plan_carried_in_from_elsewhere_is_named(cache: Path, tmp_path: Path, name: str, words: str) -> None:
    """A folder copied from another device and given the name that is looked for."""
    elsewhere = tmp_path / "elsewhere"
    theirs = write(elsewhere, replace(KEY, **{name: "d" * 64}))
    ours = write(cache)
    for path in ours.folder.iterdir():
        path.write_bytes((theirs.folder / path.name).read_bytes())
    with pytest.raises(PlanError, match=words):
        find_plan(cache, KEY)


@pytest.mark.fault("F15")
@pytest.mark.parametrize("which", ["plans", "folder", "plan.engine", "plan.json"])
def test_a_place_where_others_may_write_is_not_believed(cache: Path, which: str) -> None:
    plan = write(cache)
    path = {"plans": cache / "plans", "folder": plan.folder}.get(which, plan.folder / which)
    path.chmod(path.stat().st_mode | 0o020)
    with pytest.raises(PlanError, match="others may have written to it"):
        find_plan(cache, KEY)


@pytest.mark.fault("F15")
def test_a_plan_of_another_owner_is_not_believed(cache: Path) -> None:
    plan = write(cache)
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(plan.path, 12345, 12345)
    with pytest.raises(PlanError, match="owner 12345"):
        find_plan(cache, KEY)


def test_a_plan_compiled_by_root_belongs_to_the_caches_owner(cache: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    cache.mkdir()
    os.chown(cache, 12345, 12345)
    plan = write(cache)
    owned = [cache / "plans", cache / "plans" / ".lock", plan.folder, *plan.folder.iterdir()]
    assert {path.stat().st_uid for path in owned} == {12345}
    assert find_plan(cache, KEY) == plan


def failing(real: Callable[..., Any], code: int, after: int) -> Callable[..., Any]:
    calls = 0

    def call(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(code, os.strerror(code))
        return real(*given, **named)

    return call


@pytest.mark.fault("F06")
@pytest.mark.fault("F14")
@pytest.mark.parametrize("after", range(3))
def test_a_full_disk_leaves_the_old_plan_and_nothing_else(
    cache: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The disk fills while the plan, its record or their names are written."""
    old = write(cache)
    with monkeypatch.context() as patch:
        patch.setattr(plans, "_write", failing(plans._write, errno.ENOSPC, after))
        if after == 2:
            patch.setattr(plans, "sync", failing(plans.sync, errno.ENOSPC, 0))
        with pytest.raises(PlanError, match=r"cannot be written \(No space left") as caught:
            write(cache, data=os.urandom(10_000))
    assert "earlier plans are untouched" in str(caught.value)
    assert find_plan(cache, KEY) == old
    assert entries(cache) == {KEY.digest, ".lock"}


@pytest.mark.fault("F06")
def test_a_really_full_disk_is_told(tmp_path: Path) -> None:
    """A quota on the file's size stands in for the disk."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old = write(tmp_path, data=b"small")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        with pytest.raises(PlanError, match=r"cannot be written \(File too large\)"):
            write(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert find_plan(tmp_path, KEY) == old


def test_a_name_that_cannot_be_given_puts_the_old_plan_back(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(cache)
    real, seen = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        seen.append(self.name)
        if len(seen) == 2:  # the old one has stepped aside, the new one is to take its name
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(PlanError, match="Input/output error"):
            write(cache, data=b"new")
    assert find_plan(cache, KEY) == old
    assert entries(cache) == {KEY.digest, ".lock"}


def test_a_new_plan_takes_the_old_ones_place(cache: Path) -> None:
    write(cache)
    new = write(cache, data=b"new")
    assert find_plan(cache, KEY) == new
    assert new.read() == b"new"
    assert entries(cache) == {KEY.digest, ".lock"}


def test_what_an_interrupted_compilation_left_is_removed(cache: Path) -> None:
    write(cache)
    for name in (".working.abc", ".old.def"):
        (cache / "plans" / name).mkdir()
        (cache / "plans" / name / "plan.engine").write_bytes(b"half")
    with compile_lock(cache):
        assert entries(cache) == {KEY.digest, ".lock"}


def test_a_second_compilation_waits_for_the_first(cache: Path) -> None:
    order: list[str] = []
    waiting, done = threading.Event(), threading.Event()

    def second() -> None:
        with compile_lock(cache, waiting.set):
            order.append("second")
        done.set()

    with compile_lock(cache):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    assert done.wait(10)
    thread.join()
    assert order == ["first", "second"]


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(PlanError, match=r"file/plans: cannot be written \(Not a directory\); compile as the user"),
        compile_lock(tmp_path / "file"),
    ):
        pass


def test_pruning_keeps_what_is_named(cache: Path) -> None:
    keep, other = write(cache), write(cache, replace(KEY, version="10.4.0"))
    sizes = sum(path.stat().st_size for path in other.folder.iterdir())
    assert prune_plans(cache, {KEY.digest}) == sizes
    assert entries(cache) == {KEY.digest, ".lock"}
    assert find_plan(cache, KEY) == keep
    assert prune_plans(cache / "nowhere", set()) == 0


def test_devices_are_told_apart_without_their_machine_id(tmp_path: Path) -> None:
    seen = set()
    for number, machine in enumerate(("0" * 32, "1" * 32)):
        root = tmp_path / str(number)
        (root / "etc").mkdir(parents=True)
        (root / "etc" / "machine-id").write_text(machine + "\n")
        seen.add(device_id(root))
        assert machine not in device_id(root)
    assert len(seen) == 2
    assert len(device_id(tmp_path / "nowhere")) == 32


def test_the_record_is_readable(cache: Path) -> None:
    record = json.loads((write(cache).folder / "plan.json").read_text())
    assert record["key"] == asdict(KEY)
    assert record["schema_version"] == 1
