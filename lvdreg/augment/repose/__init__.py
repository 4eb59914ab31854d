"""Registered scans in new poses and shapes."""
