"""The model card of an exported checkpoint: what is known of it, and plainly what is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from engines.classes import CLASSES

if TYPE_CHECKING:
    from build.bundle_writer import BundleText
    from build.parity import Parity
    from engines.manifest import OperatingPoint


_UNKNOWN: Final = (
    "**No figure of this model's accuracy was given when it was exported.** Measure it with"
    " `dermascan engine verify BUNDLE --images DIR --labels CSV` before it answers for anybody, and write a card"
    " that says on whom it was trained and tested (`dermascan engine export --card FILE`)."
)


def default_card(text: BundleText, point: OperatingPoint, parities: Mapping[str, Parity | None]) -> str:
    """A card for a checkpoint that came without one, as Markdown; it claims nothing that was not measured here."""
    lines = [
        f"# {text.name} {text.version}",
        "",
        text.intended_use,
        "",
        _UNKNOWN,
        "",
        f"- Architecture: {text.architecture}; classes, in order: {', '.join(CLASSES)}.",
        f"- Licence: {text.licence}.",
        f"- Melanoma threshold: {point.threshold:g} ({point.chosen_on}).",
        *(f"- {key.replace('_', ' ').capitalize()}: {value}." for key, value in text.provenance.items()),
        "",
        "| compared on four pictures | probability, largest | mean | attention correlation, lowest |",
        "|---|---|---|---|",
        *(
            f"| {what} | {parity.largest:.1e} | {parity.mean:.1e} | {parity.attention:.6f} |"
            for what, parity in parities.items()
            if parity is not None
        ),
    ]
    return "\n".join(lines) + "\n"
