"""Exit codes of ``dermascan calibrate``, for scripts and for the page that describes the visit."""

from typing import Final

EXIT_PASS: Final = 0
"""Done, or passed; a marginal fit and a verification that warns are passes, and say so."""
EXIT_UNUSABLE: Final = 1
"""The shelf cannot be read or written (rights, a full disk)."""
EXIT_FAIL: Final = 2
"""Measured and not good enough, or refused; also a command line that argparse does not understand."""
EXIT_NO_CHART: Final = 3
EXIT_STALE: Final = 4
"""The profile is too old, or was found not to hold any more."""
EXIT_SETTINGS: Final = 78
"""The settings cannot be used (``EX_CONFIG``), as everywhere in ``dermascan``."""
EPILOG: Final = (
    "exit status: 0 pass, 2 fail, 3 chart not found, 4 profile stale, 1 files cannot be read or written, "
    "78 settings cannot be used"
)
