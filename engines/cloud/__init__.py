"""The bundle's model on another machine, asked over HTTPS when this one has no GPU to answer with."""
