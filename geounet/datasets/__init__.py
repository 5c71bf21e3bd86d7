"""Labelled imagery: where it lies, what its labels mean, what is held out."""
