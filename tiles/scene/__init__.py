"""A GeoTIFF becomes a `Scene`: its grid, its named bands, its validity, windows of its pixels."""
