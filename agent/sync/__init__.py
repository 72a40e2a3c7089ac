"""Carries the outbox to the cloud, and what the cloud says to the device, over MQTT."""
