"""Polygons on disk: GeoPackage, GeoJSON, FlatGeobuf, GeoParquet."""
