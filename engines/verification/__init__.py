"""Whether an engine gives its bundle's answers: compared with the FP32 reference, and judged by the release gates."""

from engines.verification.first import FirstLoad, first_load, passed_before

__all__ = ["FirstLoad", "first_load", "passed_before"]
