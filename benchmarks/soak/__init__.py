"""The whole agent among random faults, and the books afterwards."""
