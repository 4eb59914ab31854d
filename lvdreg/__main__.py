"""``python -m lvdreg`` is ``lvdreg``."""

from lvdreg.cli import app

if __name__ == "__main__":
    app(prog_name="lvdreg")
