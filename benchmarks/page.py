"""The clinic page, measured in a real browser: ``python -m benchmarks.page`` (needs Debian's Chromium and Playwright).

First paint, the time from an answer's commit to its line on the screen, 10,000 scans in the list, and what 50 open
pages cost the pipeline: the last two ways are taken in turn in one run, as machines drift.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import psutil

from agent.access.tokens import FOLDER, Role, Tokens
from agent.carrying import Finished
from agent.config import load_config
from agent.daemon import Daemon
from agent.records.replacing import DATABASE
from benchmarks.captures import JPEG_XGA, distinct, write
from benchmarks.pipeline import machine
from benchmarks.process import write_config
from engines.bundle import demo_bundle_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MANY: Final = 10_000
PAGES: Final = 50
BLOCK: Final = 20
"""Captures in one burst of the comparison with and without open pages."""

WATCH: Final = """() => {
  window.seen = {};
  new MutationObserver(() => {
    for (const row of document.querySelectorAll(".row:not([data-standing=working])")) {
      if (row.dataset.id in window.seen) continue;
      window.seen[row.dataset.id] = [performance.timeOrigin + performance.now(), 0];
      requestAnimationFrame(() => requestAnimationFrame(() => {
        window.seen[row.dataset.id][1] = performance.timeOrigin + performance.now();
      }));
    }
  }).observe(document.getElementById("list"), { subtree: true, childList: true, attributes: true });
}"""
"""Notes when a scan's line stands in the document, and when the frame after that was drawn; wall time in ms."""

JUMPS: Final = """async () => {
  const rows = document.getElementById("rows");
  const times = [];
  for (let turn = 0; turn < 200; turn += 1) {
    const began = performance.now();
    rows.scrollTop = Math.random() * rows.scrollHeight;
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    times.push(performance.now() - began);
  }
  return times;
}"""

LISTEN: Final = """
import selectors, socket, sys
host, port, token = sys.argv[1:4]
ask = f"GET /api/v1/events HTTP/1.1\\r\\nHost: {host}:{port}\\r\\nAuthorization: Bearer {token}\\r\\n\\r\\n".encode()
lines = selectors.DefaultSelector()
for _ in range(int(sys.argv[4])):
    line = socket.create_connection((host, int(port)))
    line.sendall(ask)
    assert b" 200 " in line.recv(65536)
    lines.register(line, selectors.EVENT_READ)
print("open", flush=True)
lines.register(sys.stdin, selectors.EVENT_READ)
while True:
    for key, _ in lines.select():
        if key.fileobj is sys.stdin:
            sys.exit()
        key.fileobj.recv(65536)
"""
"""A process that holds lines open, as pages do, and reads what comes; as light as can be, since a clinic's pages run on
other machines and these must run beside the agent."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: str
    goal: str = ""


@dataclass(frozen=True)
class Running:
    """An agent in this process."""

    daemon: Daemon
    address: str
    folder: Path
    finished: queue.Queue[tuple[Finished, float]]
    """Each with the wall time of its commit, in ms."""
    token: str


@contextmanager
def running(root: Path) -> Iterator[Running]:
    """Run the agent on the demonstration bundle, with its page."""
    config = load_config(write_config(root, demo_bundle_folder(), 1, "[api]\nport = 0\nrequests_per_s = 10000\n"))
    finished: queue.Queue[tuple[Finished, float]] = queue.Queue()

    def note(event: Finished) -> None:
        finished.put((event, (time.time() - (time.monotonic() - event.committed)) * 1e3))

    daemon = Daemon(config, note)
    daemon.start()
    try:
        if not daemon.wait_ready(60) or daemon.web_address is None:
            raise RuntimeError("the agent was not ready in 60 s")
        token = Tokens(config.device.state_dir / FOLDER).create("bench", Role.CLINICIAN).secret
        yield Running(daemon, daemon.web_address.rstrip("/"), root / "scope-0", finished, token)
    finally:
        daemon.stop()


@contextmanager
def browsing() -> Iterator[Browser]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium")
    if found is None:
        raise SystemExit("chromium is not there: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


def signed_in(browser: Browser, agent: Running) -> Page:
    """A page on the agent."""
    page = browser.new_context(base_url=agent.address, viewport={"width": 1280, "height": 800}).new_page()
    page.goto(f"/#token={agent.token}")
    page.wait_for_selector("#connection[data-state=live]")
    return page


def measure_paint(browser: Browser, agent: Running, rounds: int) -> list[Row]:
    """First paint of a browser that knows nothing of the page, and until the list stands."""
    painted, listed = [], []
    for _ in range(rounds):
        page = signed_in(browser, agent)
        page.wait_for_selector(".row")
        cookies = page.context.cookies()
        page.context.close()
        context = browser.new_context(base_url=agent.address, viewport={"width": 1280, "height": 800})
        context.add_cookies([cast("Any", cookie) for cookie in cookies])
        page = context.new_page()
        page.goto("/")
        page.wait_for_selector(".row")
        listed.append(page.evaluate("performance.now()"))
        painted.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        context.close()
    return [
        Row("first contentful paint, empty cache (p50 / p95)", _spread(painted, 50, 95), "≤ 1000 ms"),
        Row("the list of 10,000 stands (p50 / p95)", _spread(listed, 50, 95)),
    ]


def measure_shown(browser: Browser, agent: Running, count: int) -> list[Row]:
    """From an answer's commit to its line on an open page."""
    page = signed_in(browser, agent)
    page.wait_for_selector(".row")
    page.evaluate(WATCH)
    files, stood, drawn = distinct(JPEG_XGA), [], []
    for number in range(count):
        write(agent.folder, f"shown-{number}.jpg", next(files))
        event, committed = agent.finished.get(timeout=30)
        page.wait_for_selector(f'.row[data-id="{event.scan_id}"]:not([data-standing=working])')
        page.wait_for_timeout(120)
        seen = page.evaluate("(id) => window.seen[id]", event.scan_id)
        stood.append(seen[0] - committed)
        drawn.append(seen[1] - committed)
    page.context.close()
    return [
        Row(f"commit → line in the document, {count} captures (p50 / p95 / most)", _spread(stood, 50, 95, 100)),
        Row(f"commit → drawn, {count} captures (p50 / p95 / most)", _spread(drawn, 50, 95, 100), "p95 ≤ 200 ms"),
    ]


def measure_many(browser: Browser, agent: Running) -> list[Row]:
    """10,000 scans: through the whole list by key, then jumps in it."""
    page = signed_in(browser, agent)
    page.wait_for_selector(".row")
    page.get_by_role("button", name="All").click()
    page.wait_for_selector(".row")
    page.locator("#rows").focus()
    pages, began = [], time.monotonic()
    while True:
        height = page.evaluate("document.getElementById('rows').scrollHeight")
        started = time.monotonic()
        page.keyboard.press("End")
        while page.evaluate("document.getElementById('rows').scrollHeight") == height:
            if page.evaluate("/^[0-9][0-9,]* scans$/.test(document.querySelector('.rows-foot').textContent)"):
                break
        else:
            pages.append((time.monotonic() - started) * 1e3)
            continue
        break
    through = time.monotonic() - began
    jumps = page.evaluate(JUMPS)
    rows = page.locator(".row").count()
    heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
    page.context.close()
    return [
        Row("10,000 scans: End pressed → the next page of 100 stands (p50 / p95)", _spread(pages, 50, 95)),
        Row("10,000 scans: from the newest to the oldest by End alone", f"{through:.1f} s"),
        Row("10,000 scans: a jump anywhere in the list → drawn (p50 / p95 / most of 200)", _spread(jumps, 50, 95, 100)),
        Row("10,000 scans: rows in the document / JavaScript heap", f"{rows} / {heap:.0f} MB"),
    ]


def measure_open_pages(agent: Running, rounds: int) -> list[Row]:
    """What open lines cost the pipeline: bursts of captures without and with them, in turn."""
    host, port = agent.address.removeprefix("http://").rsplit(":", 1)
    files = distinct(JPEG_XGA)
    rates: dict[int, list[float]] = {0: [], PAGES: []}
    times: dict[int, list[float]] = {0: [], PAGES: []}
    shares: list[float] = []
    for turn in range(rounds):
        for lines in (0, PAGES) if turn % 2 else (PAGES, 0):
            with _listening(host, port, agent.token, lines) as reader:
                used, began = _used_s(reader), time.monotonic()
                rate = _burst(agent, [next(files) for _ in range(BLOCK)], f"open-{turn}-{lines}")
                shares.append((_used_s(reader) - used) / (time.monotonic() - began))
                single = [_single(agent, next(files), f"one-{turn}-{lines}-{number}.jpg") for number in range(BLOCK)]
            rates[lines].append(rate)
            times[lines] += single
    # Of each round by itself: a machine that others use, too, drifts more between rounds than within one.
    slower = float(np.median([alone / watched for alone, watched in zip(rates[0], rates[PAGES], strict=True)]))
    latency = float(np.median(times[PAGES]) / np.median(times[0]))
    return [
        Row(
            f"bursts of {BLOCK} captures, without / with {PAGES} open pages ({rounds} rounds in turn)",
            f"{np.median(rates[0]):.1f} / {np.median(rates[PAGES]):.1f} captures/s; cost {(slower - 1) * 100:+.1f} %",
            "≤ 5 %",
        ),
        Row(
            f"file closed → committed, single captures, without / with {PAGES} open pages (p50 of {len(times[0])})",
            f"{np.median(times[0]):.1f} / {np.median(times[PAGES]):.1f} ms; cost {(latency - 1) * 100:+.1f} %",
            "≤ 5 %",
        ),
        Row(
            "of that, the process that reads the lines, which in a clinic is elsewhere (p50, of one core)",
            f"{float(np.median([share for share in shares if share > 0] or [0.0])) * 100:.1f} %",
        ),
    ]


def _used_s(reader: psutil.Process | None) -> float:
    """Processor time of the process that reads, so far; 0 where there is none."""
    return 0.0 if reader is None else float(sum(reader.cpu_times()[:2]))


@contextmanager
def _listening(host: str, port: str, token: str, lines: int) -> Iterator[psutil.Process | None]:
    if lines == 0:
        time.sleep(0.5)
        yield None
        return
    command = [sys.executable, "-c", LISTEN, host, port, token, str(lines)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("the listener has no pipes")
        process.stdout.readline()
        time.sleep(0.5)
        yield psutil.Process(process.pid)
        process.stdin.close()


def _burst(agent: Running, pictures: Sequence[bytes], name: str) -> float:
    """Captures a second."""
    began = time.monotonic()
    for number, data in enumerate(pictures):
        write(agent.folder, f"{name}-{number}.jpg", data)
    last = max(agent.finished.get(timeout=60)[0].committed for _ in pictures)
    return len(pictures) / (last - began)


def _single(agent: Running, data: bytes, name: str) -> float:
    """Milliseconds from the file's close to its commit."""
    closed = write(agent.folder, name, data)
    took = (agent.finished.get(timeout=60)[0].committed - closed) * 1e3
    time.sleep(0.03)
    return took


def fill_list(root: Path, count: int) -> None:
    """Copy the first scan of a stopped agent until there are ``count``: real answers, only their ids differ."""
    with closing(sqlite3.connect(root / "state" / DATABASE)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(scans)") if row[1] != "seq"]
        own = {"scan_id": "printf('copy-%05d', n)", "identity": "printf('copy-%05d', n)"}
        values = ", ".join(own.get(column, column) for column in columns)
        db.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"  # noqa: S608
            f" INSERT INTO scans ({', '.join(columns)}) SELECT {values} FROM numbers, (SELECT * FROM scans LIMIT 1)",
            (count - 1,),
        )
        db.commit()


def _spread(values: Sequence[float], *percentiles: int) -> str:
    return " / ".join(f"{float(np.percentile(values, one)):.0f} ms" for one in percentiles)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    return "\n".join(
        [
            "| measured | value | goal |",
            "|---|---|---|",
            *(f"| {row.what} | {row.value} | {row.goal} |" for row in rows),
        ]
    )


def main() -> int:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--captures", type=int, default=30, help="captures whose way to the screen is timed (default 30)"
    )
    parser.add_argument("--rounds", type=int, default=16, help="rounds without and with open pages (default 16)")
    parser.add_argument("--only-open-pages", action="store_true", help="no browser: what open pages cost")
    arguments = parser.parse_args()
    rows: list[Row] = []

    def step(words: str, measure: Callable[[], list[Row]]) -> None:
        print(f"{words} ...", file=sys.stderr)
        rows.extend(measure())

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with running(root) as agent:
            write(agent.folder, "first.jpg", next(distinct(JPEG_XGA)))
            agent.finished.get(timeout=60)
            step("open pages", lambda: measure_open_pages(agent, arguments.rounds))
        if arguments.only_open_pages:
            print(table(rows))
            return 0
        fill_list(root, MANY)
        with running(root) as agent, browsing() as browser:
            step("first paint", lambda: measure_paint(browser, agent, 10))
            step("commit to screen", lambda: measure_shown(browser, agent, arguments.captures))
            step("10,000 scans", lambda: measure_many(browser, agent))
            version = browser.version
    print(f"{machine()}, Chromium {version}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
