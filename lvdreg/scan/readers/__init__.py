"""Readers of 3D files, one module per family of formats; `lvdreg.scan.read` chooses among them.

They are written here, and not taken from a mesh library, because files come from anyone: every count that a header
claims is held against the size of the file before a single array is allocated.
"""
