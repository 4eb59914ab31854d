"""Synthetic scans without end: bodies, poses, clothes and sensors, in torch alone, on the device that trains."""
