"""Colours of skin, hair and cloth, computed from places on the mean person."""
