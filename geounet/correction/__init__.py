"""Corrections of a map become a better map: read, sampled, fitted as an adapter of the map's model, mapped, told."""
