"""Training: vertex codes, losses and one resumable loop."""
