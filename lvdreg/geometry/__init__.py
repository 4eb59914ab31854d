"""Frames, meshes, distances and a small rasteriser: mathematics that knows no body and no network."""
