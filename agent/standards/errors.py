"""Why a scan is not exported: each with one sentence that names the scan, and no patient (F30)."""

from __future__ import annotations


class ExportError(Exception):
    """A scan is not exported; the text says why and what to do."""


class UnknownExport(ExportError):
    """There is no such scan."""


class NotFinished(ExportError):
    """The scan has not been answered yet."""


class NothingToExport(ExportError):
    """In this format there is nothing to say of this scan (a refused capture, in DICOM)."""


class StandardsMissing(ExportError):
    """The libraries for this format are not installed."""


class ExportFailed(ExportError):
    """It could not be built."""
