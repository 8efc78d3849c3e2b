"""The site that `make docs` builds: every page of the repository, and the reference, from the docstrings.

The root of the repository is the source, not `docs/`. So a relative link means the same on the site and on a code host,
from README.md and from the pages here.
"""

import penstock

project = "Penstock"
copyright = "the Penstock authors"
release = penstock.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "benchmarks/README.md", "benchmarks/results/*.md", "examples/*/README.md"]
exclude_patterns = [".*", "build", "dist", "src", "**/.cache"]

html_theme = "furo"
html_title = f"Penstock {release}"
html_show_sphinx = False
html_copy_source = False

# Headings are link targets as code hosts make them: `dataset.md#dead-letters`.
myst_heading_anchors = 4

# Docstrings are plain text with names in single backticks: a name that the reference has becomes a link to it.
default_role = "py:obj"
autodoc_default_options = {"members": True, "exclude-members": "expand"}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
maximum_signature_line_length = 90
