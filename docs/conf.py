"""How Sphinx makes the site: ``make docs`` (decision 013)."""

from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "ernie-vil-pytorch"
copyright = "the authors of ernie-vil-pytorch, Apache-2.0"

# The root of the repository is the source, so a link is the same on the site and in the repository.
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "parsers/neural/model/README.md", "docs/**"]
exclude_patterns = ["docs/front"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_heading_anchors = 4
default_role = "literal"  # our docstrings write code in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
add_module_names = False

html_theme = "furo"
html_title = "ernie-vil-pytorch"
html_extra_path = ["front"]  # index.html, which leads to docs/index.html
html_copy_source = False


def keep_attribute(_app: Sphinx, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Keeps Napoleon from taking "its further mentions: pronouns" for a type and a description."""
    if what == "attribute":
        lines.insert(0, "\\")  # a first line without a colon, of which nothing is seen


def setup(app: Sphinx) -> None:
    """Is called by Sphinx."""
    app.add_lexer("csv", TextLexer)  # Pygments knows no CSV
    app.connect("autodoc-process-docstring", keep_attribute, priority=400)  # before Napoleon, which has 500
