"""The agent's log: one line with a code for each thing said, bounded however often it is said, and never of a patient.

Under the service manager each line carries its priority (sd-daemon(3)), so that the journal can tell warnings from
news. A sentence may come a few times a minute; what comes more often is held back and counted (F28). Names of captures
are replaced, as clinics name files after patients (F30).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeAlias

from agent.upkeep.log_events import code_of

WINDOW_S: Final = 60.0
TROUBLES: Final = 5
"""Lines alike in a window from WARNING on: enough to see what it is about."""
NEWS: Final = 120
"""Below that: two a second, as much as a busy day brings."""
ALTOGETHER: Final = 1000
"""Lines of a window, whatever they say: sentences that are all different are a flood, too."""
PLACES: Final = 512
"""Places that are counted at one time."""
_ALIKE: Final = 40
"""Characters in which sentences of one place are alike."""
LONGEST: Final = 4000
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_SUFFIXES: Final = "jpe?g|png|tiff?|bmp|dcm|dicom|json"

_Place: TypeAlias = "tuple[str, int, int, str]"


@dataclass
class _Count:
    """What came of one place in its window."""

    since: float
    passed: int = 0
    held: int = 0
    last: logging.LogRecord | None = None


class Repeats:
    """Decides which lines pass, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: OrderedDict[_Place, _Count] = OrderedDict()
        self._window, self._all = float("-inf"), 0

    def passes(self, record: logging.LogRecord) -> tuple[bool, int]:
        """Whether a line passes, and how many like it were held back before it."""
        key = (record.pathname, record.lineno, record.levelno, str(record.msg)[:_ALIKE])
        now = self._clock()
        with self._lock:
            if now - self._window >= WINDOW_S:
                self._window, self._all = now, 0
            self._all += 1
            count = self._counts.get(key)
            held = 0
            if count is None or now - count.since >= WINDOW_S:
                held = 0 if count is None else count.held
                count = self._counts[key] = _Count(now)
                self._counts.move_to_end(key)
            most = TROUBLES if record.levelno >= logging.WARNING else NEWS
            if count.passed < most and self._all <= ALTOGETHER:
                count.passed += 1
                return True, held
            count.held += held
            count.held += 1
            count.last = record
            return False, 0

    def overdue(self) -> Iterator[tuple[logging.LogRecord, int]]:
        """The last line of each place that was held back and whose window is over, with how many there were.

        Also of the place that was quiet longest, where there are too many to count.
        """
        now = self._clock()
        with self._lock:
            due = [key for key, count in self._counts.items() if now - count.since >= WINDOW_S]
            due += list(self._counts)[: max(0, len(self._counts) - PLACES)]
            counts = [self._counts.pop(key) for key in dict.fromkeys(due)]
        for count in counts:
            if count.held and count.last is not None:
                yield count.last, count.held

    def rest(self) -> Iterator[tuple[logging.LogRecord, int]]:
        """All that is held back, at the end."""
        with self._lock:
            counts, self._counts = list(self._counts.values()), OrderedDict()
        for count in counts:
            if count.held and count.last is not None:
                yield count.last, count.held


class Scrubber:
    """Takes the names of captures out of a text."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = frozenset(folders)
        """Where captures lie."""
        prefixes = sorted({str(folder) for folder in self.folders}, key=len, reverse=True)
        self._prefixes = tuple(f"{prefix}/" for prefix in prefixes)
        listed = "|".join(map(re.escape, self._prefixes))
        # As far as the last suffix of a picture in the line; a name may have blanks and quotes in it.
        name = f"[^\\n]*\\.(?:{_SUFFIXES})\\b|[^\\s'\",;:)\\]]+"
        inside = re.compile(f"({listed})(?!file-[0-9a-f]{{8}})({name})", re.IGNORECASE)
        self._inside = inside if listed else None

    def names_in(self, values: Iterable[object]) -> Iterator[str]:
        """What of a line's values is the path of a capture, exactly."""
        for value in values:
            texts: tuple[object, ...] = (value,)
            if isinstance(value, OSError):
                texts = (value.filename, value.filename2)
            for text in texts:
                name = os.fsdecode(text) if isinstance(text, bytes | os.PathLike) else text
                if isinstance(name, str) and name.startswith(self._prefixes):
                    yield name

    def clean(self, text: str, names: Iterable[str] = ()) -> str:
        """The text with other names for captures; the same name gives the same one."""
        for name in sorted(set(names), key=len, reverse=True):
            prefix = next(prefix for prefix in self._prefixes if name.startswith(prefix))
            text = text.replace(name, prefix + _alias(name.removeprefix(prefix)))
        return text if self._inside is None else self._inside.sub(self._other, text)

    @staticmethod
    def _other(found: re.Match[str]) -> str:
        return found[1] + _alias(found[2])


def _alias(name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    suffix = Path(name).suffix.lower()
    return f"file-{digest}{suffix if re.fullmatch(rf'[.](?:{_SUFFIXES})', suffix) else ''}"


class Lines(logging.Handler):
    """Writes the log. One for the process."""

    def __init__(
        self,
        stream: TextIO,
        scrubber: Scrubber,
        *,
        priorities: bool,
        repeats: Repeats | None = None,
    ) -> None:
        super().__init__()
        self._stream, self._scrubber, self._priorities = stream, scrubber, priorities
        self._repeats = repeats or Repeats()
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless many like it were just written."""
        try:
            for last, count in self._repeats.overdue():
                self._write(last, count)
            passes, held = self._repeats.passes(record)
            if passes:
                self._write(record, held)
        except Exception:  # noqa: BLE001 - no line of the log is worth the agent
            self.handleError(record)

    def look(self) -> None:
        """Say what is held back and due, though nothing else is said."""
        with self.lock or threading.Lock():
            for last, count in self._repeats.overdue():
                self._write(last, count)

    def scrub(self, folders: Iterable[Path]) -> None:
        """Take names in these folders out as well from now on."""
        self._scrubber = Scrubber({*self._scrubber.folders, *folders})

    def close(self) -> None:
        """Say what is held back."""
        for last, count in self._repeats.rest():
            self._write(last, count)
        super().close()

    def _write(self, record: logging.LogRecord, held: int) -> None:
        names = list(self._scrubber.names_in(_values(record)))
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self._formatter.formatException(record.exc_info)
            names += self._scrubber.names_in(_chain(record.exc_info[1]))
        if held:
            text += f" (held back: {held} more like this)"
        text = self._scrubber.clean(text, names)[:LONGEST]
        code = code_of(record.name, str(record.msg))
        first, *rest = text.splitlines() or [""]
        head = "" if self._priorities else f"{record.levelname} "
        lines = [f"{head}[{code}] {record.name}: {_shown(first)}", *(f"  {_shown(line)}" for line in rest)]
        mark = f"<{_priority(record.levelno)}>" if self._priorities else ""
        self._stream.write("".join(f"{mark}{line}\n" for line in lines))
        self._stream.flush()


def start(folders: Iterable[Path], *, verbose: bool = False, stream: TextIO | None = None) -> Lines:
    """Begin to write the log of this process.

    Args:
        folders: where captures lie, whose names no line may hold.
        verbose: also what a developer wants to know.
        stream: standard error, unless another is named.
    """
    stream = sys.stderr if stream is None else stream
    lines = Lines(stream, Scrubber(folders), priorities=_is_journal(stream))
    root = logging.getLogger()
    for other in root.handlers[:]:
        root.removeHandler(other)
    root.addHandler(lines)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    return lines


def look() -> None:
    """Let the log of this process, where it has one of ours, say what it holds back and is due; for the rounds."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Lines):
            handler.look()


def _is_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream leads to the journal: systemd names its device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)


def _values(record: logging.LogRecord) -> list[object]:
    if isinstance(record.args, Mapping):
        return list(record.args.values())
    return list(record.args or ())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


def _shown(text: str) -> str:
    """Nothing that moves a terminal's cursor or starts another line: a file's name may hold it."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "\ufffd" for letter in text)
