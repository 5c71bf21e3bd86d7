"""The tables of things that have a folder or a geometry of their own: scenes, maps, corrections."""
