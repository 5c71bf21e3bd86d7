"""Adapters: a few small layers on another network, its base; their file, their place in the graph, what they read."""
