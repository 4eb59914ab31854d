"""A page on this computer for people who do not use terminals: drop scans, see the results, correct, take home."""
