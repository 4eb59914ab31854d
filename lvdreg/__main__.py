"""``python -m lvdreg`` is ``lvdreg``."""

from lvdreg.cli import run

if __name__ == "__main__":
    run()
