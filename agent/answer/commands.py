"""``dermascan analyze``: the same answers without a daemon and without a database."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from agent.answer.oneshot import Item, Refused, analyse_all, open_setting
from agent.answer.report import OverlayFolder, as_json, as_text
from agent.config import Config, load_config
from agent.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_SOME_REJECTED
from agent.model import choose_bundle
from engines.backend import EngineError
from engines.bundle import Bundle, demo_bundle_folder, load_bundle
from engines.trust.verifying import DEMO_TRUST


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``analyze``."""
    parser = subparsers.add_parser(
        "analyze",
        help="answer pictures without the daemon",
        description="Answer pictures without the daemon and without a database. An adjunct for trained clinicians; "
        "not a diagnosis. Exit status: 0 all answered, 3 some rejected, 1 engine failed, 78 bad configuration.",
    )
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", type=Path, help="a picture: JPEG, PNG, TIFF, BMP or DICOM"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line, in the order given")
    parser.add_argument(
        "--overlay", metavar="DIR", type=Path, help="write an overlay PNG per answered picture into DIR"
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="take device, bundle and ladder from this agent.toml"
    )
    parser.add_argument("--bundle", metavar="DIR", type=Path, help="use this bundle (default: the demo bundle)")
    parser.set_defaults(run=analyze)


def analyze(arguments: argparse.Namespace) -> int:
    """Run ``dermascan analyze``; returns the exit code. Bad configuration and bundles raise, and the caller says 78."""
    images: list[Path] = arguments.images
    for path in images:
        if path.is_dir():
            _complain(f"{path}: is a folder; name the pictures in it, for example {path}/*.jpg")
            return EXIT_CONFIG
    config = load_config(arguments.config) if arguments.config else None
    setting = open_setting(_bundle(arguments.bundle, config), config)
    try:
        overlays = OverlayFolder(arguments.overlay, images) if arguments.overlay else None
    except OSError as error:
        _complain(
            f"{arguments.overlay}: cannot be used for overlays ({error.strerror}); name a folder you may write to"
        )
        return EXIT_CONFIG
    try:
        setting.ladder.start()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare") as pool, _progress(len(images)) as step:
            return _answer_all(analyse_all(images, setting, pool), overlays, step, json_lines=arguments.json)
    except EngineError as error:
        _complain(f"the engine failed and the remaining pictures were not answered: {error}")
        return EXIT_FAILED
    finally:
        setting.ladder.stop()


def _bundle(folder: Path | None, config: Config | None) -> Bundle:
    """The bundle that is asked for, else the one that the agent would run, else the demonstration's."""
    if folder is None and config is not None:
        return choose_bundle(config.inference)
    return load_bundle(folder or demo_bundle_folder(), trust=config.inference.trust if config else DEMO_TRUST)


def _answer_all(
    items: Iterator[Item], overlays: OverlayFolder | None, step: Callable[[], None], *, json_lines: bool
) -> int:
    code = EXIT_OK
    for item in items:
        written = None
        if isinstance(item.outcome, Refused):
            code = EXIT_SOME_REJECTED
        elif overlays is not None:
            try:
                written = overlays.write(item.path, item.outcome)
            except OSError as error:
                _complain(f"{overlays.folder}: the overlay of {item.path} could not be written ({error.strerror})")
                return EXIT_FAILED
        step()
        print(as_json(item) if json_lines else as_text(item, written), flush=True)
    return code


def _complain(sentence: str) -> None:
    print(sentence, file=sys.stderr)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr where that is a terminal; a call counts one picture."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # rich would take over stdout too; the answers go there untouched, so that they can be piped.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("Analysing", total=total)
        yield lambda: progress.advance(task)
