"""The engine on a card, beside other ways to run the same network."""
