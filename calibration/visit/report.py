"""The calibration report: one HTML file with everything in it, that a technician prints and signs."""

from __future__ import annotations

from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Final

from calibration.shelf.verification import Verification
from calibration.visit import report_parts as parts
from calibration.visit.report_content import WORDS, Content, remark, stand

MOST_PICTURES: Final = 12


def render(content: Content) -> str:
    """The report as one HTML page without anything outside it."""
    profile = content.profile
    style = files("calibration.visit").joinpath("report.css").read_text(encoding="utf-8")
    sections = (
        _header(content),
        _about(content),
        _remarks(content),
        _figures(content),
        _pictures(content),
        _swatches(content),
        _bars(content),
        _gain(content),
        _verifications(content),
        _history(content),
        _signatures(content),
        _footer(content),
    )
    title = f"Calibration {profile.dermoscope_id} {profile.profile_id}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>\n{style}</style></head>\n<body>\n'
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


def _header(content: Content) -> str:
    profile = content.profile
    outcome, word, below = stand(content)
    return (
        "<header><div><h1>Colour calibration report</h1>"
        f'<p class="of">Dermoscope <b>{escape(profile.dermoscope_id)}</b> · profile <b>{profile.profile_id}</b></p>'
        f'</div><div class="stamp {outcome}"><b>{word}</b><span>{below}</span></div></header>'
    )


def _about(content: Content) -> str:
    profile, use = content.profile, content.use
    left = {
        "Calibrated by": profile.operator,
        "Calibrated": _when(profile.created_at),
        "Valid until": f"{profile.expires_at:%d %B %Y}",
        "In use since": f"{_when(use.activated_at)}, by {use.operator}" if use else "not in use",
        "Software": f"DermaScan Edge {profile.software_version}",
    }
    right = {
        "Chart": profile.chart.reference,
        "Serial number": profile.chart.target_serial or "not given",
        "Light": profile.illuminant,
        "Shots": ", ".join(f"{shot.file} ({shot.width}×{shot.height})" for shot in profile.chart.shots),
        "Chart found": profile.chart.found_by,
        "Correction": profile.shape,
    }
    return f'<div class="columns">{parts.facts(left)}{parts.facts(right)}</div>'


def _remarks(content: Content) -> str:
    boxes = []
    use = content.use
    if use is not None and use.override is not None:
        who = f"Put into use by override: {use.override.name} answers for it."
        boxes.append(parts.box("fail", who, [f"Reason given: {use.override.reason}"]))
    if content.profile.reasons:
        words = {"pass": "The fit passed, with a remark", "marginal": "The fit is marginal", "fail": "The fit failed"}
        boxes.append(parts.box(content.profile.outcome, words[content.profile.outcome], content.profile.reasons))
    last = content.verifications[-1] if content.verifications else None
    if last is not None and last.reasons:
        words = {
            "pass": "The verification passed",
            "warn": "The verification warns",
            "block": "The verification failed",
        }
        boxes.append(parts.box(last.verdict, words[last.verdict], last.reasons))
    if use is not None and use.blocked_by is not None:
        boxes.append(parts.box("block", "This profile no longer holds", ["Calibrate this dermoscope again."]))
    return "".join(boxes)


def _figures(content: Content) -> str:
    profile = content.profile
    rows = [
        ("without the profile", profile.before, False),
        ("with the profile", profile.in_sample, False),
        ("with the profile, each patch left out of its own fit", profile.leave_one_out, True),
    ]
    if content.verifications:
        last = content.verifications[-1]
        rows.append((f"verification of {last.made_at:%d %B %Y}, another shot", last.after, True))
    return (
        f'<section class="apart"><h2>Colour differences</h2>{parts.figures_table(rows, profile.limits)}'
        '<p class="note">CIEDE2000 against the maker\'s values (Lab, D50, 2°). 1 is about the least a trained eye sees '
        "side by side.</p></section>"
    )


def _pictures(content: Content) -> str:
    if not content.pictures:
        return ""
    shown = content.pictures[:MOST_PICTURES]
    figures = []
    for evidence, data in shown:
        picture = parts.image(data, "jpeg", evidence.caption) if data else "<p>(lost, or changed since)</p>"
        figures.append(f'<figure class="apart">{picture}<figcaption>{escape(evidence.caption)}</figcaption></figure>')
    left = len(content.pictures) - len(shown)
    more = f'<p class="note">and {left} more on the device</p>' if left else ""
    many = " many" if len(shown) > 4 else ""
    return (
        "<section><h2>The shots, and the patches as they were found</h2><div "
        f'class="pictures{many}">{"".join(figures)}</div>{more}</section>'
    )


def _swatches(content: Content) -> str:
    profile = content.profile
    grid = parts.swatch_grid(profile.patches, profile.chart, profile.limits["max"])
    gamut = '<p class="note">* outside what sRGB can show; drawn as near as it goes.</p>' if " *" in grid else ""
    return f'<section class="apart"><h2>Before and after</h2>{grid}{gamut}</section>'


def _bars(content: Content) -> str:
    profile = content.profile
    return (
        '<section class="apart"><h2>Colour difference of each patch</h2>'
        f"{parts.bars(profile.patches, profile.limits)}"
        '<p class="note">pale: without the profile; dark: with it</p></section>'
    )


def _gain(content: Content) -> str:
    flat = content.profile.flat_field
    if flat is None or content.gain is None:
        return (
            "<section class=apart><h2>Evenness of the light</h2><p>No flat field was taken: "
            "the light was taken as even.</p></section>"
        )
    facts = parts.facts(
        {
            "White frames": ", ".join(shot.file for shot in flat.frames),
            "Taken": _when(flat.made_at),
            "Gain": f"{flat.lowest:.2f} (dark in the map) to {flat.highest:.2f} (bright)",
            "Map": f"{flat.columns}×{flat.rows} points",
            "Lines": "each 0.1 of gain",
        }
    )
    picture = parts.image(parts.gain_picture(content.gain.gain), "png", "gain map")
    return (
        '<section class="apart"><h2>Evenness of the light: the gain map</h2><div '
        f'class="gain"><figure>{picture}</figure>'
        f"{facts}</div></section>"
    )


def _verifications(content: Content) -> str:
    if not content.verifications:
        return ""
    limits = content.verifications[-1].limits
    heads = "".join(f"<th>{head}</th>" for head in ("verified", "by", "light", "mean", "largest", "rise", "verdict"))
    lines = [
        f"<tr><td>{_when(made.made_at)}</td><td>{escape(made.operator)}</td><td>{escape(made.illuminant)}</td>"
        f"<td>{made.after.mean:.2f}</td><td>{made.after.max:.2f}</td><td>{_rise(made)}</td>"
        f'<td class="{made.verdict}">{WORDS[made.verdict]}</td></tr>'
        for made in content.verifications
    ]
    return (
        f'<section class="apart"><h2>Verifications</h2><table class=text><tr>{heads}</tr>{"".join(lines)}</table>'
        f'<p class="note">Rise: mean above commissioning; warned from +{limits["warn_rise"]:g}, blocked from '
        f"+{limits['block_rise']:g} (engineering choices).</p></section>"
    )


def _rise(made: Verification) -> str:
    return "" if made.rise is None else f"{made.rise:+.2f}"


def _history(content: Content) -> str:
    heads = "".join(f"<th>{head}</th>" for head in ("when", "what", "by", "remark"))
    lines = [
        f"<tr><td>{_when(event.at)}</td><td>{event.what.value}</td><td>{escape(event.operator)}</td>"
        f"<td>{escape(remark(event))}</td></tr>"
        for event in content.events
    ]
    return (
        '<section class="apart"><h2>History of this '
        f"profile</h2><table class=text><tr>{heads}</tr>{''.join(lines)}</table></section>"
    )


def _signatures(content: Content) -> str:
    colour, word, _ = stand(content)
    if word == "OVERRIDE":
        use = "Its profile was put into use by override."
    elif word == "NOT VERIFIED":
        use = "Its profile is not verified and must not be used yet."
    elif colour in {"fail", "block"}:
        use = "The profile must not be used: calibrate again."
    else:
        use = f"Its profile may be used until {content.profile.expires_at:%d %B %Y}, while verifications hold."
    sentence = f"The dermoscope was measured as stated above. {use}"
    lines = (
        ("technician: name", content.profile.operator),
        ("technician: date, signature", ""),
        ("for the clinic: name", ""),
        ("for the clinic: date, signature", ""),
    )
    cells = "".join(f"<section><div>{escape(name)}</div><span>{what}</span></section>" for what, name in lines)
    return f'<section class="apart"><h2>Signatures</h2><p>{sentence}</p><div class="sign">{cells}</div></section>'


def _footer(content: Content) -> str:
    profile = content.profile
    return (
        f"<footer>Profile {profile.profile_id}, SHA-256 {profile.sha256} · report written "
        f"{_when(content.written_at)} · "
        "DermaScan Edge is an adjunct for trained clinicians, never a diagnosis by itself.</footer>"
    )


def _when(moment: datetime) -> str:
    return f"{moment:%d %B %Y, %H:%M} UTC"
