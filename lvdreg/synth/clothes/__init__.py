"""What synthetic people wear: layered garments, and which are chosen."""
