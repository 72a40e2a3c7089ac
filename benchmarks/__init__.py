"""Measurements: every figure in the README comes from a command in here."""

import engines  # noqa: F401 - before ONNX Runtime is loaded: engines keep it from reporting home
