"""Class rasters on disk: written as COG, measured, read back in blocks."""
