"""Sphinx: ``make docs``. Nothing is fetched while building."""

import re
from importlib.metadata import version as installed

project = "flowcut"
author = "The flowcut authors"
copyright = "The flowcut authors"
version = release = installed("flowcut")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = False

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "flowcut"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "show_version_warning_banner": False,
    "secondary_sidebar_items": ["page-toc"],
}


def escape_plain_text(app, what, name, obj, options, lines):
    """Docstrings are written for people first: ``*spatial`` and ``|x|`` there are no markup."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [
            re.sub(r"(?<![\\*\w])\*(?=spatial|window)|(?<!\\)\|", r"\\\g<0>", part) for part in parts[::2]
        ]
        lines[number] = "".join(parts)


def setup(app):
    """Escape before numpydoc reads."""
    app.connect("autodoc-process-docstring", escape_plain_text, priority=100)
