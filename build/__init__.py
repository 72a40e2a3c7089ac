"""The build stage: a trained checkpoint in, an engine bundle out. torch lives here and in ``training`` only."""

import engines  # noqa: F401 - before ONNX Runtime is loaded: engines keep it from reporting home
