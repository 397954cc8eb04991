"""``mtl drift``."""
