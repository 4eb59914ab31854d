"""What every part may use; imports nothing else of lvdreg."""
