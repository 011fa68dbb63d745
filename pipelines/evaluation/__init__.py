"""What a model hears against what was said: pure measures over hypotheses, and their report."""
