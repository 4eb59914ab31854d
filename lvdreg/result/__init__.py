"""What comes out: results, verdicts, files and pictures."""
