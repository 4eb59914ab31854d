"""Run the Python of README and docs/ as a reader would: ``python run_documents.py PAGE...`` in a folder with assets/.

Every page starts afresh. What several pages register alike is registered once, and fast where they ask for no quality;
``out/`` keeps the results.
"""

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lvdreg
from lvdreg import Settings


def fast(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call that keeps its results, at the lowest quality unless settings are given."""
    return functools.cache(lambda *args, **kwargs: call(*args, **{"settings": Settings(quality="fast")} | kwargs))


def main(pages: list[str]) -> None:
    """Run all blocks of each page, in order, sharing their names."""
    for name in ("register", "register_hand", "register_image"):
        setattr(lvdreg, name, fast(getattr(lvdreg, name)))
    for page in pages:
        text = Path(page).read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        exec(compile(code, page, "exec"), {"__name__": page})
    lvdreg.register("assets/examples/dressed.ply", model="anny+d").save("out/person")
    lvdreg.register_hand("assets/examples/hand.ply", model="anny-hand+d").save("out/hand")
    lvdreg.register_image("assets/examples/person.jpg").save("out/photo")


if __name__ == "__main__":
    main(sys.argv[1:])
