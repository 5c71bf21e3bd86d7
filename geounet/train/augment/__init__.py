"""What training does to its crops so that the network learns ground and not a look."""
