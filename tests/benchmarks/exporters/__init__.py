"""The rivals' own model formats, made from the same weights."""
