"""The documentation site: `make docs` builds it, without the network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
# The extensions beside this file, and `train`, which is not installed.
sys.path[:0] = [str(HERE), str(HERE.parent)]

project = "minitransformer"
author = "The minitransformer maintainers"
extensions = [
    "inventories",
    "mathml",
    "myst_parser",
    "pictures",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
html_theme = "furo"
html_title = "minitransformer"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
