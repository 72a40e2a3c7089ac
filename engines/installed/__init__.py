"""The bundles that are installed on this device, and which of them runs."""
