"""Who may use this device: tokens, the sessions opened with them, and how often anyone may try."""
