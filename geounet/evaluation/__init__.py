"""Scores: how well a bundle does on labelled imagery."""
