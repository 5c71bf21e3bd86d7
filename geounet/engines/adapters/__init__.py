"""What the engines need for adapters: the outputs of a network's stages, and layers on a converted model."""
