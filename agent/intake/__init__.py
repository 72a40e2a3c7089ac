"""From a file in a dermoscope's folder to a complete capture, and from its bytes to a picture."""
