"""What looks on while the agent works, and looks after it."""
