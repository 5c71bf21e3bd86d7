"""What a model is: the bundle on disk, its network, how raw counts become its input."""
