"""Names of result folders: any input, on any system, one folder right in --out."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lvdreg.base.names import MAX_BYTES, UNNAMED, folder_name, name_key

RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{d}{n}" for d in ("com", "lpt") for n in "0123456789¹²³"
}
ANYTHING = st.text(st.characters(exclude_categories=()), max_size=400) | st.text("./\\ .:con-\x00é\u0301", max_size=12)


@settings(deadline=None, max_examples=500)
@given(ANYTHING)
@example("..")
@example("." * 300)
@example("體" * 100)
@example("e\u0301" * 300)
@example("nul.txt")
@example("a" * 199 + " .b")
def test_a_name_is_one_folder_that_every_system_takes(stem: str) -> None:
    name = folder_name(stem)
    assert 0 < len(name.encode("utf-8")) <= MAX_BYTES + 1
    assert not set(name) & set('/\\<>:"|?*') and all(
        unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in name
    )
    assert name[0] not in ". " and name[-1] not in ". "
    assert name.partition(".")[0].strip(" ").casefold() not in RESERVED
    assert unicodedata.is_normalized("NFC", name)
    assert folder_name(name) == name


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("scan", "scan"), ("scan.2 b", "scan.2 b"), ("体_ä-1", "体_ä-1"), ("[bold]x", "[bold]x"),
        ("", UNNAMED), (".", UNNAMED), ("..", UNNAMED), (" . . ", UNNAMED), (".hidden", "hidden"), ("a.", "a"),
        ("a/b", "a_b"), ("..\\b", "_b"), ("12:30", "12_30"), ("a\nb", "a_b"), ("\udcff", "_"), ("a\u2028b", "a_b"),
        ("con", "con_"), ("NUL", "NUL_"), ("com1.left", "com1_.left"), ("com10", "com10"), ("lpt¹", "lpt¹_"),
        ("console", "console"), ("a\u0308", "\u00e4"), ("x" * 300, "x" * MAX_BYTES), ("体" * 90, "体" * 66),
    ],
)  # fmt: skip
def test_names(stem: str, name: str) -> None:
    assert folder_name(stem) == name


def test_what_some_file_system_takes_for_one_is_one() -> None:
    for a, b in (
        ("Scan", "sCAN"),
        ("\u00e4", "a\u0308"),
        ("\u00c4", "a\u0308"),
        ("straße", "STRASSE"),
        ("\u212b", "å"),
    ):
        assert name_key(a) == name_key(b)
    assert name_key("scan") != name_key("scan-2")
