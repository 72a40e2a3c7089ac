"""Training: dermoscopic images in, a Vision Transformer checkpoint out, with honest figures."""
