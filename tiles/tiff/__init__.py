"""TIFF files as bytes: their directories, and what in them names other files. No decoder, no GDAL."""
