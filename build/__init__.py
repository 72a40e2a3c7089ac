"""The build stage: a trained checkpoint in, an engine bundle out. torch lives here and in ``training`` only."""
