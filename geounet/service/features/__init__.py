"""A map's polygons as features: found by box, clipped, brought to another CRS, written as text."""
