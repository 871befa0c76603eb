"""Builds the pages: the guide, every tutorial run from beginning to end, and the reference."""

import importlib.metadata
import re
from pathlib import Path

project = "pyro_ebm"
author = "The pyro_ebm developers"
release = importlib.metadata.version("pyro_ebm")
copyright = author

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["conf.py"]
nitpicky = False
# A name in single backticks is code.
default_role = "code"

# Tutorials are Python scripts in percent format, and run where nothing lies beside them.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
# Beside the copy of the pages that is built, wherever Sphinx is called from.
nb_execution_cache_path = str(Path(__file__).parent.parent / "docs-cache")
nb_execution_in_temp = True
nb_execution_timeout = 1200
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "pyro_ebm"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
templates_path = ["_templates"]

# Docstrings write shapes as [*batch, dim] and absolute values as |x|, which are markup elsewhere.
_SHAPE = re.compile(r"(?<![`\w\]])(\[[^\[\]`]*\*[^\[\]`]*\])(?!`)")


def plain_text(app, what, name, obj, options, lines):
    """Have shapes set as code, and single bars and stars as what they are."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.+?``|`[^`]*`)", _SHAPE.sub(r"`\1`", line))
        lines[number] = "".join(
            part if part.startswith("`") else re.sub(r"([|]|(?<![\w*])[*](?=\w))", r"\\\1", part)
            for part in parts
        )


def setup(app):
    app.connect("autodoc-process-docstring", plain_text)
