"""How synthetic people stand and move, and where on a body each vertex lies."""
