"""The cache of compiled plans: ``<cache>/plans/<key>/`` with ``plan.engine`` and ``plan.json``, whole or not at all.

A plan is native code for one GPU and one TensorRT, so it is found again only under everything that made it what it is
(F14), and believed only where it was built on this device, nobody else can write to it, and its bytes are those that
were written (F15). Plans are never the artefact: one that is not believed is compiled again from the signed bundle.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.files import read_small, sync
from engines.tensorrt.plan_key import PlanKey

PLAN_NAME: Final = "plan.engine"
RECORD_NAME: Final = "plan.json"
_PLANS: Final = "plans"
_WORKING: Final = ".working."
_ASIDE: Final = ".old."
_MAX_RECORD_BYTES: Final = 1 << 16
_AGAIN: Final = "compile it again with dermascan engine compile"


class PlanError(Exception):
    """A plan cannot be made, kept or believed. The message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class Plan:
    """A plan in the cache whose record fits its key."""

    folder: Path
    key: PlanKey
    sha256: str
    size_bytes: int
    build_seconds: float
    built_at: str
    notes: tuple[str, ...] = field(default=())
    """What the builder warned of."""

    @property
    def path(self) -> Path:
        """The plan's file."""
        return self.folder / PLAN_NAME

    def read(self) -> bytes:
        """The plan's bytes, checked: hand these to TensorRT, never the path, so that nothing is exchanged in between.

        Raises:
            PlanError: the file was changed, cut short or removed.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise PlanError(f"{self.path}: the plan cannot be read ({error.strerror}); {_AGAIN}") from error
        if len(data) != self.size_bytes:
            raise PlanError(f"{self.path}: the plan has {len(data)} bytes, not {self.size_bytes}; {_AGAIN}")
        if (found := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise PlanError(
                f"{self.path}: the plan was changed or damaged (its sha256 begins {found[:12]}, {RECORD_NAME}'s"
                f" {self.sha256[:12]}); {_AGAIN}"
            )
        return data


class _Key(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model_sha256: str
    source: str
    source_sha256: str
    product: str
    version: str
    gpu: str
    compute_capability: str
    driver: str
    device: str
    flags: dict[str, str]
    recipe: int


class _Record(BaseModel):
    """``plan.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    key: _Key
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(gt=0)]
    build_seconds: float
    built_at: str
    notes: tuple[str, ...] = ()


def _folder(cache: Path, key: PlanKey) -> Path:
    return cache / _PLANS / key.digest


def _check_owner(path: Path, cache: Path) -> None:
    """Nobody but root, us and the cache's owner can have written here (F15)."""
    status = os.lstat(path)
    if status.st_uid not in {0, os.geteuid(), cache.stat().st_uid} or status.st_mode & 0o022:
        raise PlanError(
            f"{path}: others may have written to it (owner {status.st_uid}, mode {status.st_mode & 0o777:o}), and a"
            f" plan is native code; remove {cache / _PLANS} and compile again"
        )


def _give_to_owner(path: Path, cache: Path) -> None:
    """What root writes belongs to the cache's owner, or the agent could not replace it."""
    if os.geteuid() == 0:
        owner = cache.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _read_record(path: Path) -> _Record:
    try:
        return _Record.model_validate_json(read_small(path, _MAX_RECORD_BYTES))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise PlanError(f"{path}: {where}: {first['msg']}; {_AGAIN}") from error


_WORDS: Final[Mapping[str, str]] = {
    "gpu": "another GPU",
    "compute_capability": "another GPU",
    "version": "another TensorRT",
    "product": "another TensorRT",
    "driver": "another driver",
    "device": "another device",
    "flags": "other settings",
    "recipe": "another version of this software",
}


def _check_key(path: Path, found: Mapping[str, Any], key: PlanKey) -> None:
    for name, due in asdict(key).items():
        if found[name] != due:
            raise PlanError(
                f"{path}: the plan is for {_WORDS.get(name, 'another model')} ({name} {found[name]!r}, here {due!r});"
                f" {_AGAIN}"
            )


def find_plan(cache: Path, key: PlanKey, *, check_hash: bool = True) -> Plan | None:
    """The plan of exactly this key, or None where there is none.

    Args:
        cache: the device's cache folder.
        key: what is wanted.
        check_hash: also read the whole plan and compare its sha256; leave that to :meth:`Plan.read` where the plan is
            going to be loaded at once.

    Raises:
        PlanError: there is one, and it must not be used: damaged, tampered with, or made for something else.
    """
    folder = _folder(cache, key)
    if not folder.is_dir():
        return None
    try:
        for path in (cache / _PLANS, folder, folder / RECORD_NAME, folder / PLAN_NAME):
            _check_owner(path, cache)
    except FileNotFoundError as error:
        raise PlanError(f"{error.filename}: is missing; {_AGAIN}") from error
    record = _read_record(folder / RECORD_NAME)
    _check_key(folder / RECORD_NAME, record.key.model_dump(), key)
    plan = Plan(folder, key, record.sha256, record.size_bytes, record.build_seconds, record.built_at, record.notes)
    if check_hash:
        plan.read()
    return plan


@contextlib.contextmanager
def compile_lock(cache: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the cache for one compilation; a second one waits: two at once would spoil each other's timings.

    Also makes the cache's folders, and removes what an interrupted compilation left.

    Raises:
        PlanError: the cache cannot be written.
    """
    plans = cache / _PLANS
    try:
        plans.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(plans / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        for path in (plans, plans / ".lock"):
            _give_to_owner(path, cache)
    except OSError as error:
        raise PlanError(
            f"{plans}: cannot be written ({error.strerror}); compile as the user that the agent runs as, or name"
            " another folder with --cache"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        for left in (*plans.glob(f"{_WORKING}*"), *plans.glob(f"{_ASIDE}*")):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def write_plan(
    cache: Path,
    key: PlanKey,
    data: bytes | memoryview,
    *,
    build_seconds: float,
    built_at: str,
    notes: tuple[str, ...] = (),
) -> Plan:
    """Put a plan into the cache, whole and durable; hold :func:`compile_lock` meanwhile.

    Raises:
        PlanError: it cannot be written; whatever plan was there before is still there.
    """
    plans, target = cache / _PLANS, _folder(cache, key)
    digest = hashlib.sha256(data).hexdigest()
    record = _Record(
        key=_Key(**asdict(key)),
        sha256=digest,
        size_bytes=len(data),
        build_seconds=round(build_seconds, 3),
        built_at=built_at,
        notes=notes,
    )
    try:
        working = Path(tempfile.mkdtemp(prefix=_WORKING, dir=plans))
        try:
            _write(working / PLAN_NAME, data)
            _write(working / RECORD_NAME, record.model_dump_json(indent=2).encode() + b"\n")
            working.chmod(0o755)
            for path in (working / PLAN_NAME, working / RECORD_NAME, working):
                _give_to_owner(path, cache)
                sync(path)
            _put_in_place(working, target)
            sync(plans)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    except OSError as error:
        raise PlanError(
            f"{target}: the plan ({len(data) / 1e6:.0f} MB) cannot be written ({error.strerror}); free space in"
            f" {cache}, or name another folder with --cache; earlier plans are untouched"
        ) from error
    return Plan(target, key, digest, len(data), record.build_seconds, built_at, notes)


def _write(path: Path, data: bytes | memoryview) -> None:
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(data)


def _put_in_place(working: Path, target: Path) -> None:
    """Give the new folder its name; an old one steps aside first, and back where that fails."""
    if not target.exists():
        working.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=target.parent))
    try:
        target.rename(aside / target.name)
        try:
            working.rename(target)
        except OSError:
            (aside / target.name).rename(target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def prune_plans(cache: Path, keep: Collection[str]) -> int:
    """Remove every plan whose key's digest is not in ``keep``; returns the bytes given back."""
    freed = 0
    for folder in sorted((cache / _PLANS).glob("[0-9a-f]*")):
        if folder.name not in keep and folder.is_dir() and not folder.is_symlink():
            freed += sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
            shutil.rmtree(folder, ignore_errors=True)
    return freed
