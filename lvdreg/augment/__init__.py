"""Training sets from registered scans, or from nobody: reposed, reshaped, lit, photographed and scanned.

The story, one module each: who is there and what was asked for (``lookup``, ``plan``); a person steps before the camera
in some pose and shape (``people``); one that fits is found and kept (``versions``), photographed from all around
(``photograph``) and written with others into a shard (``shards``); shards are made by several processes until none is
missing (``run``). ``estimate`` says beforehand what it will cost, ``sheet`` shows what came out.
"""
