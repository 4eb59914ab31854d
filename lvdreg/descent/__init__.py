"""From a scan or a photo to vertices and their uncertainty: where the body may lie, and Learned Vertex Descent."""
