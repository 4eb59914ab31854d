"""From a file to a clean scan: read, segment, clean, orient."""
