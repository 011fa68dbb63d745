"""Labelled audio: one manifest form for every data set."""
