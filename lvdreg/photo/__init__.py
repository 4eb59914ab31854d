"""From an image file to a person in a photo: read, detect, mask, keypoints. The twin of ``scan``."""
