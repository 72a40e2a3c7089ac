"""From a capture to an explained answer: quality, diagnosis, heatmap, overlay, and the pipeline through them."""
