"""The TensorRT backend: plans are compiled on the device, proved there, and run with the named-tensor API."""
