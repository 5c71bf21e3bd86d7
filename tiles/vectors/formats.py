"""The polygon formats by name."""

FORMATS = ("gpkg", "geojson", "geojsonl", "fgb", "parquet")
"""Names of the vector formats, which are the endings of their files too. `tiles.vectors.write` writes them."""
