"""Who may give this device a model: signatures over a bundle's manifest, and the keys that are believed (F15)."""
