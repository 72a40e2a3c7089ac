"""The sync and the fallback against real brokers."""
