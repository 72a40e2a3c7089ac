"""Training: dermoscopic images in, a Vision Transformer checkpoint out, with honest figures."""

import engines  # noqa: F401 - before ONNX Runtime is loaded: engines keep it from reporting home
