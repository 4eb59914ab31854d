"""Synthetic photos: cameras, light, rendering and sensor degradation."""
