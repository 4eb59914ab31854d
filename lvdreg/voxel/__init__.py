"""Scans as voxels: the grid, the IF-Net encoder and the reading of its features at points."""
