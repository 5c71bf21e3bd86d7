"""Training and evaluation: labelled imagery becomes a bundle, and a bundle becomes scores."""
