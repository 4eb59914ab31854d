"""Register 3D scans of people to body models by Learned Vertex Descent."""
