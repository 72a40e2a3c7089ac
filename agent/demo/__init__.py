"""The demonstration: a simulated dermoscope and a live table of its answers."""
