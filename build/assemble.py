"""A checkpoint becomes a bundle folder: exported, counted, compared with torch, and only then written."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from build.bundle_writer import (
    FP16_NAME,
    GOLDEN_TOLERANCE,
    MODEL_NAME,
    check_place,
    cpu_session,
    probabilities,
    write_bundle,
)
from build.census import Census, check_contract
from build.checkpoint import Checkpoint, Origin, load_checkpoint
from build.export import Answering, export_onnx
from build.export_order import (
    NORMALISATIONS,
    ExportOrder,
    bundle_text,
    default_normalisation,
    operating_point,
    read_golden,
    read_reference,
    read_text,
)
from build.exported_card import default_card
from build.fp16 import MAXIMUM, to_fp16
from build.onnx_file import read_model, write_model
from build.parity import Parity, parity_of
from build.random_bundle import synthetic_lesion
from build.rounding import run_rounded
from engines.backend import BundleError, Images
from engines.manifest import InputContract, Manifest
from engines.preprocess import preprocess

EXACT: Final = 1e-4
"""Largest difference between torch and the exported FP32 graph: both round differently, at about 1e-6."""
HEADROOM: Final = 4
"""Activations above this share of FP16's range on a few pictures may leave it on another."""
_SEEDS: Final = 8
_SHOWN_DECIDED: Final = 0.99


class ExportFailed(Exception):
    """The checkpoint was read, and no bundle that could be trusted came of it. The message says why and what to do."""


@dataclass(frozen=True)
class Exported:
    """The bundle that was written, and what was measured on the way."""

    folder: Path
    manifest: Manifest
    checkpoint: Checkpoint
    normalisation: str
    census: Census
    against_torch: Parity
    fp16: Parity | None
    peak: float | None
    """Largest activation of the FP16 graph; 65504 is FP16's largest number."""
    warnings: tuple[str, ...]
    seconds: float


def assemble(order: ExportOrder, say: Callable[[str], None]) -> Exported:
    """Export a checkpoint into a bundle without a signature.

    Args:
        order: What to export.
        say: Told what is being done, a few words at a time.

    Raises:
        BundleError: the checkpoint or another given file cannot be used, or the bundle's place is taken.
        GraphError: the graph cannot be made (a weight beyond FP16, more than 2 GB).
        ExportFailed: the graph does not give the checkpoint's answers.
        OSError: the bundle could not be written.
    """
    started = time.monotonic()
    _check_out(order)
    golden = None if order.golden is None else read_golden(order.golden)
    reference = None if order.reference is None else read_reference(order.reference)
    card = None if order.card is None else read_text(order.card)
    say(f"reading {order.checkpoint.name}")
    checkpoint = load_checkpoint(order.checkpoint, order.weights)
    if order.fp16 and checkpoint.beyond_fp16:
        names = ", ".join(checkpoint.beyond_fp16[:8])
        raise ExportFailed(
            f"{order.checkpoint}: {names} hold values beyond FP16's {MAXIMUM:g}, and no FP16 engine can be made of"
            " them; export with --no-fp16"
        )
    chosen = order.normalisation or default_normalisation(checkpoint)
    contract = NORMALISATIONS[chosen]
    order.out.parent.mkdir(parents=True, exist_ok=True)
    _check_space(order, checkpoint)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=order.out.parent) as folder:
        maker = _Maker(order, checkpoint, contract, Path(folder), say)
        golden = maker.least_decided() if golden is None else golden
        images = np.concatenate([preprocess(rgb, contract) for rgb in (golden, *map(_lesion, range(100, 103)))])
        against_torch = maker.compare_with_torch(images)
        half, peak = maker.make_fp16(images) if order.fp16 else (None, None)
        say("writing the bundle")
        point, warnings = operating_point(order)
        draft = bundle_text(order, checkpoint, chosen)
        facts = {"Largest difference from torch": against_torch, "FP16 against FP32": half}
        text = replace(draft, card=card or default_card(draft, point, facts))
        manifest = write_bundle(
            order.out,
            maker.model,
            golden,
            text,
            point,
            contract=contract,
            reference=reference,
            fp16_onnx=maker.fp16 if order.fp16 else None,
            signed=False,
        )
    warnings += _remarks(checkpoint, manifest, peak, order)
    return Exported(
        order.out,
        manifest,
        checkpoint,
        chosen,
        maker.census,
        against_torch,
        half,
        peak,
        warnings,
        time.monotonic() - started,
    )


class _Maker:
    """Makes the graphs in a working folder, and compares them."""

    def __init__(
        self,
        order: ExportOrder,
        checkpoint: Checkpoint,
        contract: InputContract,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._order = order
        self._checkpoint = checkpoint
        self._contract = contract
        self._say = say
        self.model = folder / MODEL_NAME
        self.fp16 = folder / FP16_NAME
        say(f"exporting {checkpoint.architecture} from {checkpoint.origin.value}'s names (the longest step)")
        export_onnx(
            checkpoint.model,
            self.model,
            fp16_weights=order.half_storage,
            temperature=order.temperature,
            bias=order.bias,
        )
        self.census = check_contract(read_model(self.model))
        self._session = cpu_session(self.model)

    def least_decided(self) -> NDArray[np.uint8]:
        """The synthetic picture whose answer is least decided: there an engine's faults show most."""
        lesions = [_lesion(seed) for seed in range(_SEEDS)]
        rows = [probabilities(self._session, preprocess(rgb, self._contract))[0] for rgb in lesions]
        return lesions[int(np.stack(rows).max(axis=1).argmin())]

    def compare_with_torch(self, images: Images) -> Parity:
        """The exported graph against the network that it was made from."""
        self._say("comparing with torch")
        answering = Answering(self._checkpoint.model, self._order.temperature, self._order.bias).eval()
        with torch.inference_mode():
            expected = [tensor.numpy() for tensor in answering(torch.from_numpy(images))]
        self._expected = self._session.run(None, {"images": images})
        parity = parity_of(self._expected, expected)
        if not parity.largest <= (GOLDEN_TOLERANCE if self._order.half_storage else EXACT):
            raise ExportFailed(
                f"{self._order.checkpoint}: the exported graph's probabilities differ from torch's by"
                f" {parity.largest:.2g}: this torch exports the network wrongly; use the versions of constraints.txt"
            )
        return parity

    def make_fp16(self, images: Images) -> tuple[Parity, float]:
        """The FP16 graph, compared with the FP32 one as a card would compute it; and its largest activation."""
        self._say("making the FP16 graph")
        half: onnx.ModelProto = to_fp16(read_model(self.model), residual_single=self._order.residual_single)
        write_model(half, self.fp16)
        check_contract(half)
        self._say("comparing FP16 with FP32")
        answer = run_rounded(half, images)
        name, peak = answer.highest
        if not peak <= MAXIMUM:
            remedy = "--no-fp16" if self._order.residual_single else "--fp32-residual"
            raise ExportFailed(
                f"{self._order.checkpoint}: activations reach {peak:.3g} at {name}, beyond FP16's {MAXIMUM:g}; export"
                f" with {remedy}"
            )
        parity = parity_of([answer.probabilities, answer.attention], self._expected)
        if not parity.largest <= GOLDEN_TOLERANCE:
            raise ExportFailed(
                f"{self._order.checkpoint}: in FP16 a probability differs by {parity.largest:.3f}, and"
                f" {GOLDEN_TOLERANCE:g} is allowed; export with --fp32-residual, or --no-fp16"
            )
        return parity, peak


def _lesion(seed: int) -> NDArray[np.uint8]:
    return synthetic_lesion(seed=seed)


def _check_out(order: ExportOrder) -> None:
    check_place(order.out)
    if not order.replace and (order.out.is_dir() and any(order.out.iterdir())):
        raise BundleError(f"{order.out}: holds a bundle already; name another folder, or replace it with --replace")


def _check_space(order: ExportOrder, checkpoint: Checkpoint) -> None:
    """Both graphs lie on disk twice for a moment, so that the bundle appears whole or not at all."""
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    needed = 2 * parameters * ((2 if order.half_storage else 4) + (2 if order.fp16 else 0))
    free = shutil.disk_usage(order.out.parent).free
    if free < needed:
        raise ExportFailed(
            f"{order.out.parent}: {free / 1e6:.0f} MB are free, and {needed / 1e6:.0f} MB are needed; free some, or"
            " name another place with --out"
        )


def _remarks(checkpoint: Checkpoint, manifest: Manifest, peak: float | None, order: ExportOrder) -> tuple[str, ...]:
    remarks = list(checkpoint.notes)
    if order.normalisation is None and checkpoint.origin is Origin.TIMM:
        remarks.append(
            "normalisation: mean and deviation 0.5, as timm's ViT weights have it; say --normalise imagenet if the"
            " training used ImageNet's"
        )
    if peak is not None and peak > MAXIMUM / HEADROOM:
        remarks.append(f"activations reach {peak:.3g} of FP16's {MAXIMUM:g}; consider --fp32-residual")
    if max(manifest.golden.probabilities) > _SHOWN_DECIDED:
        remarks.append(
            "the golden image's answer is decided above 0.99, and hides an engine's faults; give --golden IMAGE"
        )
    return tuple(remarks)


def figures(exported: Exported) -> dict[str, object]:
    """Everything that was measured, for ``--json``."""
    manifest, checkpoint = exported.manifest, exported.checkpoint
    return {
        "bundle": str(exported.folder),
        "name": manifest.name,
        "version": manifest.version,
        "architecture": manifest.architecture,
        "origin": checkpoint.origin.value,
        "checkpoint_sha256": checkpoint.sha256,
        "normalisation": exported.normalisation,
        "threshold": manifest.operating_point.threshold,
        "files": {name: (exported.folder / name).stat().st_size for name in manifest.files},
        "graph": asdict(exported.census),
        "against_torch": asdict(exported.against_torch),
        "fp16_against_fp32": None if exported.fp16 is None else asdict(exported.fp16),
        "largest_fp16_activation": exported.peak,
        "warnings": list(exported.warnings),
        "seconds": round(exported.seconds, 1),
    }
