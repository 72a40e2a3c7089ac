"""A pyinstrument report of the pipeline: ``python -m benchmarks.profile_pipeline --out profile.html``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from pyinstrument import Profiler

from agent.answer.overlay import render_overlay
from agent.answer.pipeline import analyse
from agent.config import load_config
from agent.daemon import Daemon
from agent.intake.capture import Capture, FileStamp
from agent.intake.sidecar import Sidecar
from benchmarks.captures import JPEG_XGA, distinct
from benchmarks.process import write_config
from engines.bundle import demo_bundle_folder


def main() -> None:
    """Profile ``analyse`` and the overlay on 200 captures in one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("profile.html"), help="the HTML report to write")
    parser.add_argument("--captures", type=int, default=200)
    arguments = parser.parse_args()
    files = distinct(JPEG_XGA)
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(load_config(write_config(Path(folder), demo_bundle_folder(), 1)))
        daemon.start()
        daemon.wait_ready(60)
        with Profiler(interval=0.0005) as profiler:
            for _ in range(arguments.captures):
                data = next(files)
                capture = Capture.from_bytes(Path("x.jpg"), "bench", FileStamp(0, 0, len(data), 0, 0), data)
                analysis = analyse(capture, daemon._setting, "profile", Sidecar)  # noqa: SLF001 - the daemon's own setting
                render_overlay(analysis.rgb, analysis.attention, analysis.answer)
        daemon.stop()
    arguments.out.write_text(profiler.output_html())
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
