"""``dermascan engine export``: a trained checkpoint becomes a bundle that waits for its signature."""

from __future__ import annotations

import argparse
import json
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from build.assemble import Exported
    from build.export_order import ExportOrder

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
_DESCRIPTION: Final = """\
Export a checkpoint of torchvision's vit_b_16, timm's vit_{base,small,tiny}_patch16_224 or our own training into a
bundle: model.onnx (FP32) and model.fp16.onnx (strongly typed FP16), a golden image, a manifest and a card. Both graphs
are compared with the checkpoint before anything is written. The bundle has no signature yet, and nothing runs it
before it has one: dermascan engine sign --key FILE BUNDLE.

Exit codes: 0 the bundle was written, 1 no bundle could be made of the checkpoint or written, 78 the checkpoint or
another file or folder that was named cannot be used.
"""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export``."""
    parser = verbs.add_parser(
        "export",
        help="make a bundle of a trained checkpoint",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .pt or .safetensors file")
    parser.add_argument(
        "--out", metavar="BUNDLE", type=Path, required=True, help="the bundle's folder, best called .../NAME/VERSION"
    )
    parser.add_argument("--replace", action="store_true", help="replace a bundle that is there")
    parser.add_argument("--json", action="store_true", help="print what was written and measured as JSON")
    _add_model_options(parser.add_argument_group("the model"))
    _add_text_options(parser.add_argument_group("what the bundle says of itself"))
    parser.set_defaults(run=export)


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--weights", metavar="NAME", help="which set of weights, where the file has several (model_ema)")
    group.add_argument(
        "--normalise",
        choices=("imagenet", "half"),
        help="how training normalised pictures: ImageNet's mean and deviation (default), or 0.5 (default for timm's)",
    )
    group.add_argument("--temperature", metavar="T", type=_positive, default=1.0, help="divides the logits (default 1)")
    group.add_argument("--bias", metavar="B,...", type=_seven, help="seven numbers added to the scaled logits")
    group.add_argument("--no-fp16", action="store_true", help="write no model.fp16.onnx: engines compute in FP32")
    group.add_argument(
        "--fp32-residual", action="store_true", help="keep the sums through the blocks in FP32 in the FP16 graph"
    )
    group.add_argument(
        "--fp16-weights", action="store_true", help="round model.onnx's large weights to float16: half the file"
    )


def _add_text_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--name", type=_name, help="default: from --out, or the checkpoint's name")
    group.add_argument("--version", type=_version, metavar="N.N.N", help="default: from --out, or 0.1.0")
    group.add_argument(
        "--threshold", metavar="P", type=_share, help="melanoma risk from which a lesion is suspicious (default 0.5)"
    )
    group.add_argument("--sensitivity", metavar="P", type=_share, help="of that threshold, where chosen")
    group.add_argument("--specificity", metavar="P", type=_share, help="of that threshold, where chosen")
    group.add_argument("--chosen-on", metavar="TEXT", help="the data on which the threshold was chosen")
    group.add_argument(
        "--golden",
        metavar="IMAGE",
        type=Path,
        help="the self-test's picture, shipped in the bundle (default: synthetic)",
    )
    group.add_argument("--reference", metavar="JSON", type=Path, help="statistics of the training images, for drift")
    group.add_argument(
        "--card", metavar="FILE", type=Path, help="MODEL_CARD.md (default: one that says what is unknown)"
    )
    group.add_argument("--licence", metavar="TEXT", help="of the weights (default: not stated)")
    group.add_argument("--intended-use", metavar="TEXT", help="one sentence for the manifest")


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _seven(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if len(values) != 7 or not all(abs(value) < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not seven numbers with commas between")
    return values


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not lower-case letters, digits, '.', '_' and '-'")
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"\d+\.\d+\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1.2.3")
    return text


def export(arguments: argparse.Namespace) -> int:
    """Run ``dermascan engine export``; returns the exit code."""
    from engines.backend import BundleError

    try:
        from build.assemble import ExportFailed, assemble, figures
        from build.onnx_file import GraphError
    except ImportError as error:
        _complain(f"the build stage is not installed here ({error}); run: pip install 'dermascan-edge[build]'")
        return EXIT_FAILED
    try:
        with _progress() as say:
            exported = assemble(_order(arguments), say)
    except BundleError as error:
        _complain(str(error))
        return EXIT_CONFIG
    except (ExportFailed, GraphError) as error:
        _complain(str(error))
        return EXIT_FAILED
    except OSError as error:
        _complain(f"{error.filename or arguments.out}: {error.strerror or error}; the bundle was not written")
        return EXIT_FAILED
    if arguments.json:
        print(json.dumps(figures(exported) | {"peak_memory_mb": _peak_memory()}, indent=2))
    else:
        _show(exported)
    return EXIT_OK


def _order(arguments: argparse.Namespace) -> ExportOrder:
    from build.export_order import ExportOrder

    return ExportOrder(
        checkpoint=arguments.checkpoint,
        out=arguments.out.absolute(),
        weights=arguments.weights,
        name=arguments.name,
        version=arguments.version,
        threshold=arguments.threshold,
        sensitivity=arguments.sensitivity,
        specificity=arguments.specificity,
        chosen_on=arguments.chosen_on,
        golden=arguments.golden,
        card=arguments.card,
        licence=arguments.licence,
        intended_use=arguments.intended_use,
        normalisation=arguments.normalise,
        temperature=arguments.temperature,
        bias=arguments.bias,
        reference=arguments.reference,
        half_storage=arguments.fp16_weights,
        fp16=not arguments.no_fp16,
        residual_single=arguments.fp32_residual,
        replace=arguments.replace,
    )


def _peak_memory() -> int:
    """The most memory that this process ever held, in MB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Tells on stderr what is being done: one line that changes on a terminal, else a line for each step."""
    if not sys.stderr.isatty():
        yield lambda message: print(message, file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("starting (loading torch)") as status:
        yield lambda message: status.update(escape(message))


def _show(exported: Exported) -> None:
    """What was written and measured, for a reader."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    manifest, census = exported.manifest, exported.census
    table = Table(title=f"{manifest.name} {manifest.version}", show_header=False, title_justify="left")
    table.add_row("bundle", str(exported.folder))
    table.add_row("network", f"{manifest.architecture}, {exported.checkpoint.origin.value}'s names")
    kept = ", ".join(f"{census.operators[name]} {name}" for name in ("LayerNormalization", "Gelu", "Softmax"))
    table.add_row("graph", f"opset {census.opset}, {kept}")
    for name in sorted(manifest.files):
        table.add_row(name, decimal((exported.folder / name).stat().st_size))
    exact, half = exported.against_torch, exported.fp16
    table.add_row("against torch", f"probabilities within {exact.largest:.1e}")
    if half is not None:
        table.add_row(
            "FP16 against FP32", f"probabilities within {half.largest:.1e}, attention r ≥ {half.attention:.5f}"
        )
        table.add_row("largest FP16 activation", f"{exported.peak:.0f} of 65504")
    table.add_row("threshold", f"{manifest.operating_point.threshold:g}, {manifest.operating_point.chosen_on}")
    table.add_row("time and memory", f"{exported.seconds:.0f} s, {_peak_memory() / 1000:.1f} GB")
    console = Console(highlight=False, markup=False)
    console.print(table)
    for warning in exported.warnings:
        console.print(f"note: {warning}", soft_wrap=True)
    console.print(f"not signed yet; next: dermascan engine sign --key FILE {exported.folder}", soft_wrap=True)


def _complain(message: str) -> None:
    print(message, file=sys.stderr)
