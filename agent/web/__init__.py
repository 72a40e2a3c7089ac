"""The local interface and the clinic page: HTTP in the agent's own process, which never holds up its answers."""
