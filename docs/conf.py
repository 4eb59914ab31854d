"""How ``make docs`` builds the site: plain files that ask nothing of the network, API pages from the docstrings."""

from lvdreg import __version__

project = "lvdreg"
author = "The lvdreg authors"
copyright = author
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Headings down to the third level can be linked to, by the names that GitHub gives them.
myst_heading_anchors = 3

# The docstrings mark code with single backticks, too.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True}
# Attributes stand once, in the text of their class, which says their shapes and units.
napoleon_use_ivar = True
napoleon_attr_annotations = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"lvdreg {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "native"
