"""A little renderer of street scenes: textures, models, layout, camera."""
