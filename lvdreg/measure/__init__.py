"""What people ask of a registered body: how long, how wide, where is this landmark, and how sure is that."""
