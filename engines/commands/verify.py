"""``dermascan engine verify``: the gate before an engine may answer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engines.commands.places import EXIT_DID_NOT_PASS, EXIT_OK, add_trust_options, trust_from

if TYPE_CHECKING:
    from engines.verification.run import Order, Progress

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
BACKENDS: Final = ("cpu", "cpu-fp16", "tensorrt")
"""As in ``engines.commands.choices``, which the command line is not to load for other commands."""

_DESCRIPTION: Final = """\
Compare an engine with the FP32 reference (model.onnx on this machine's CPU), and measure the release gates.

Without pictures: views of the bundle's golden image. With --images: same most probable class, changed decisions,
attention, latency from file to answer. With --labels too: melanoma sensitivity, accuracy, accuracy lost to the
reference. A gate that cannot be measured is called so and never counts as met. The result is printed and written
to verification.json in the bundle.

Exit codes: 0 no gate is unmet (with --release: every gate was measured and met), 2 a gate is unmet or the engine
failed, 1 nothing could be found out (reference or engine cannot be had here, the result cannot be written), 78 the
settings, the bundle, the pictures or the labels cannot be used.
"""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``verify``."""
    parser = verbs.add_parser(
        "verify",
        help="compare an engine with its reference and measure the release gates",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the bundle's folder")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what to verify (default: cpu-fp16 where the bundle has an FP16 graph and onnx is installed, else cpu)",
    )
    parser.add_argument("--images", metavar="DIR", type=Path, help="pictures to compare on")
    parser.add_argument(
        "--labels", metavar="CSV", type=Path, help="header image,label: class names or HAM10000's codes; needs --images"
    )
    parser.add_argument("--limit", metavar="N", type=_positive, help="only N of the pictures, drawn at random")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of that draw (default 0)")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="CPU threads (default: one for each core)")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="where compiled plans lie (tensorrt)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the result here, not into the bundle")
    parser.add_argument("--release", action="store_true", help="exit 2 also where a gate was not measured")
    add_trust_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Run ``dermascan engine verify``; returns the exit code. A bundle that cannot be used raises."""
    from engines.commands.choices import EngineMissing
    from engines.verification.gates import Verdict
    from engines.verification.labels import PicturesError
    from engines.verification.record import VERIFICATION_NAME, RecordError, to_json, write_record
    from engines.verification.report import show
    from engines.verification.run import ReferenceFailed, verify

    try:
        with _progress() as progress:
            order = _order(arguments, progress)
            found = verify(order, progress)
    except PicturesError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except (EngineMissing, ReferenceFailed, RecordError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if arguments.json:
        print(to_json(found), end="")
    else:
        show(found, sys.stdout)
    try:
        write_record(arguments.out or order.bundle.folder / VERIFICATION_NAME, found)
    except RecordError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    passed = found.verdict is Verdict.PASSED or (found.verdict is Verdict.INCOMPLETE and not arguments.release)
    return EXIT_OK if passed else EXIT_DID_NOT_PASS


def _order(arguments: argparse.Namespace, progress: Progress) -> Order:
    """What was asked for, checked."""
    from engines.bundle import load_bundle
    from engines.commands.choices import choose
    from engines.verification.labels import PicturesError, draw, find_pictures
    from engines.verification.record import VERIFICATION_NAME, check_writable
    from engines.verification.run import Order

    bundle = load_bundle(arguments.bundle, trust=trust_from(arguments))
    check_writable(arguments.out or bundle.folder / VERIFICATION_NAME)
    if arguments.labels and not arguments.images:
        raise PicturesError(f"{arguments.labels}: labels of which pictures? Name their folder with --images")
    found = find_pictures(arguments.images, arguments.labels) if arguments.images else []
    chosen = choose(
        arguments.backend,
        bundle,
        threads=arguments.threads,
        cache=arguments.cache,
        progress=lambda what, share: progress(what, round(100 * (share or 0.0)), 100),
    )
    return Order(
        bundle=bundle,
        engine=chosen.spec,
        about=chosen.about,
        timed=chosen.timed,
        failure=chosen.failure,
        pictures=tuple(draw(found, arguments.limit, arguments.seed)),
        folder=str(arguments.images.resolve()) if arguments.images else "",
        drawn_from=len(found),
        seed=arguments.seed,
        threads=arguments.threads,
    )


@contextmanager
def _progress() -> Iterator[Progress]:
    """Progress bars on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bars:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=max(done, 0))

        yield step
