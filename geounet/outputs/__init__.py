"""What a map folder holds, and how it is written."""
