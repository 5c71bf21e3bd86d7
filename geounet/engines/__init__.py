"""What runs the network. `geounet.engines.choose` decides; each engine is one file."""
