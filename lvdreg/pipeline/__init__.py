"""The method on one page each: scans and photos from input to result."""
