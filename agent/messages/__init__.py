"""What the agent and the cloud say to each other: every message, defined here once."""
