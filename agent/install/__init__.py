"""Puts the agent on a device and takes it off again. Standard library alone: it runs before anything is here."""
