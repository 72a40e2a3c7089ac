"""Exit codes of the commands; the service files rely on them."""

from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
"""Something outside the configuration stopped the work (the store, the engine, another agent)."""
EXIT_SOME_REJECTED: Final = 3
"""Every picture reached an end, and some of them were refused."""
EXIT_CONFIG: Final = 78
"""``EX_CONFIG`` of sysexits.h: starting again without a change of the configuration is useless (F24)."""
