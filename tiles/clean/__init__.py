"""A stranger's GeoTIFF, decoded once into files of our own, and what was read of the file that it came from."""
