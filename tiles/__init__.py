"""Pixels and geometry of georeferenced scenes."""
