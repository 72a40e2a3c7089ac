"""What is kept: the store, the outbox with its messages, and the result files."""
