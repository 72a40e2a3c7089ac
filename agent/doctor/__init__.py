"""The doctor: says in words what is wrong with a device and what to do, mends what is safe to mend, packs a report."""
