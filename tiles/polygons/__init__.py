"""Class rows become polygons that fit: neighbours share their border exactly, simplified or not."""
