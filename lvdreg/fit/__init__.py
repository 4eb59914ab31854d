"""From vertices to body parameters, refined against the scan or the photo."""
