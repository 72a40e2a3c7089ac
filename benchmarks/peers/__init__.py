"""Other servers, run from their own packages with the same weights, for ``benchmarks.api``."""
