"""One process for each recogniser under test, driven by lines of JSON.

These modules also run in the rivals' environment, where the predictor is not installed: they import
nothing of the project but each other.
"""
