"""``dermascan engine compile``: a bundle's graph becomes a TensorRT plan for the GPU of this device."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engines.commands.places import CONFIG_NAME, add_trust_options, trust_from

if TYPE_CHECKING:
    from engines.tensorrt.apart import Request
    from engines.tensorrt.listening import Progress
    from engines.tensorrt.plans import Plan

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
_MEGABYTE: Final = 1 << 20
_MAX_SETTINGS_BYTES: Final = 1 << 20
_DESCRIPTION: Final = """\
Compile a bundle's graph into a TensorRT plan for the GPU of this device. Plans are a cache, never the artefact: they
are kept under the model's hash, TensorRT's version, the GPU, the driver and the settings, and made anew where any of
these changed. The agent compiles by itself when it needs to; this command does it beforehand.

FP16 comes from the bundle's model.fp16.onnx, with the casts in the graph (strongly typed: TensorRT 10 and 11), or where
there is no such thing by letting the builder choose, with LayerNormalization and softmax held in FP32 (weakly typed:
TensorRT 8.6, and 10 on request). A plan answers only after it gave the reference's numbers on this device.

Supported: TensorRT 8.6 to 11 (JetPack 6 and 7, x86). JetPack 5 is not: its Python 3.8 is too old.

Exit codes: 0 the plan is there, 1 it cannot be compiled here (no GPU, no TensorRT, the builder failed, the cache cannot
be written), 78 the settings or the bundle cannot be used.
"""
_EXPERIMENT: Final = (
    "Note: TensorRT-RTX is another product, for GeForce RTX cards. Its plans are an experiment here, not for clinics."
)


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``compile``."""
    parser = verbs.add_parser(
        "compile",
        help="compile a bundle for the GPU of this device",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the bundle's folder")
    parser.add_argument(
        "--via",
        choices=("onnx", "torch-tensorrt"),
        default="onnx",
        help="TensorRT's own parser (default), or torch-tensorrt where it is installed",
    )
    parser.add_argument(
        "--max-batch",
        metavar="N",
        type=_number(1, 64),
        default=8,
        help="most pictures in one run (default %(default)s)",
    )
    parser.add_argument(
        "--precision", choices=("fp16", "fp32"), default="fp16", help="fp32 is for finding faults (default %(default)s)"
    )
    parser.add_argument(
        "--typing",
        choices=("auto", "strong", "weak"),
        default="auto",
        help="what decides what is FP16: the graph (strong) or the builder (weak); default: strong where there is",
    )
    parser.add_argument(
        "--workspace-mb", metavar="MB", type=_number(1, 1 << 20), help="memory that the builder may use (default: all)"
    )
    parser.add_argument(
        "--level",
        metavar="0-5",
        type=_number(0, 5),
        default=3,
        help="how long the builder searches (default %(default)s)",
    )
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, help="where plans are kept (default: cache in the settings' state_dir)"
    )
    add_trust_options(parser)
    parser.add_argument("--force", action="store_true", help="compile although the cache has the plan")
    parser.add_argument(
        "--experimental-rtx", action="store_true", help="take TensorRT-RTX where there is no TensorRT: an experiment"
    )
    parser.add_argument("--verbose", action="store_true", help="show all that TensorRT says")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def _number(least: int, most: int) -> Any:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return number

    return parse


def run(arguments: argparse.Namespace) -> int:
    """Run ``dermascan engine compile``; returns the exit code. Settings or a bundle that cannot be used raise."""
    from engines.tensorrt.apart import compile_apart
    from engines.tensorrt.gpu import NoGpu
    from engines.tensorrt.plans import PlanError
    from engines.tensorrt.versions import NoTensorRT

    seen: list[str] = []
    try:
        with _progress(quiet=arguments.verbose) as show:

            def progress(what: str, share: float | None) -> None:
                seen.append(what)
                show(what, share)

            plan = compile_apart(_request(arguments), progress)
    except (NoGpu, NoTensorRT, PlanError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    fresh = any(what.startswith("building") for what in seen)
    if arguments.json:
        print(json.dumps(_told(plan, fresh=fresh)))
    else:
        print("\n".join(_lines(plan, arguments, fresh=fresh)))
    return EXIT_OK


def _request(arguments: argparse.Namespace) -> Request:
    from engines.tensorrt.apart import Request
    from engines.tensorrt.order import CompileOrder

    return Request(
        bundle=arguments.bundle,
        cache=arguments.cache or _settings_cache(arguments.config),
        order=CompileOrder(
            max_batch=arguments.max_batch,
            precision=arguments.precision,
            typing=arguments.typing,
            via=arguments.via,
            workspace_bytes=arguments.workspace_mb * _MEGABYTE if arguments.workspace_mb else None,
            optimisation_level=arguments.level,
        ),
        trust=trust_from(arguments),
        experimental=arguments.experimental_rtx,
        force=arguments.force,
        verbose=arguments.verbose,
    )


def _settings_cache(config: Path | None) -> Path:
    """``<state_dir>/cache`` of the agent's settings, which is where the agent looks for plans."""
    from engines.backend import BundleError
    from engines.files import read_small

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    if config is None:
        config = Path(CONFIG_NAME)
        if not config.is_file():
            raise BundleError(
                f"where are plans kept? Give the agent's settings with --config FILE (there is no {CONFIG_NAME} here),"
                " or a folder with --cache DIR"
            )
    try:
        content = tomllib.loads(read_small(config, _MAX_SETTINGS_BYTES).decode())
        state_dir = content["device"]["state_dir"]
    except OSError as error:
        raise BundleError(
            f"{config}: cannot be read ({error.strerror}); give the settings with --config FILE"
        ) from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise BundleError(f"{config}: is not valid TOML: {error}") from error
    except (KeyError, TypeError):
        state_dir = None
    if not isinstance(state_dir, str):
        raise BundleError(
            f"{config}: device.state_dir: is missing, or no text; add it, or give a folder with --cache DIR"
        )
    return Path(config.parent, Path(state_dir).expanduser()).absolute() / "cache"


def _told(plan: Plan, *, fresh: bool) -> dict[str, object]:
    key = plan.key
    return {
        "plan": str(plan.path),
        "key": key.digest,
        "compiled": fresh,
        "size_bytes": plan.size_bytes,
        "sha256": plan.sha256,
        "build_seconds": plan.build_seconds,
        "built_at": plan.built_at,
        "source": key.source,
        "source_sha256": key.source_sha256,
        "model_sha256": key.model_sha256,
        "product": key.product,
        "version": key.version,
        "gpu": key.gpu,
        "compute_capability": key.compute_capability,
        "driver": key.driver,
        **key.flags,
        "notes": list(plan.notes),
    }


def _lines(plan: Plan, arguments: argparse.Namespace, *, fresh: bool) -> Iterator[str]:
    from engines.tensorrt.versions import RTX

    key, flags = plan.key, plan.key.flags
    product = "TensorRT-RTX" if key.product == RTX else "TensorRT"
    yield (
        f"Compiled in {plan.build_seconds:.1f} s." if fresh else f"The cache has this plan already, of {plan.built_at}."
    )
    rows = {
        "plan": f"{plan.path} ({plan.size_bytes / 1e6:.1f} MB)",
        "graph": f"{key.source}, {flags['precision'].upper()}, {flags['typing']}ly typed, via {flags['via']}",
        "batches": f"1 to {flags['max_batch']}",
        "for": f"{key.gpu} ({key.compute_capability}, driver {key.driver}) with {product} {key.version}",
    }
    for name, value in rows.items():
        yield f"  {name:8}{value}"
    for note in plan.notes:
        yield f"  TensorRT warns: {note}"
    if key.product == RTX:
        yield _EXPERIMENT
    yield f"Next: dermascan engine verify {arguments.bundle} --backend tensorrt"


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress]:
    """What is being done, on stderr: a bar where that is a terminal, else a line for each step of ours."""
    if quiet:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        last: list[str] = []

        def line(what: str, share: float | None) -> None:
            if share is None and last[-1:] != [what]:
                last.append(what)
                print(f"{what} …", file=sys.stderr)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None)

        def bar(what: str, share: float | None) -> None:
            bars.update(task, description=what, total=None if share is None else 1.0, completed=share or 0.0)

        yield bar
