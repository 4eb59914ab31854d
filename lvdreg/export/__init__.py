"""Results for other programs: rigged models, meshes, animation. ``run.py`` says which formats there are."""
