"""Sphinx: the README, the guide, the cards and the docstrings, each included where it stands and never copied."""

from pathlib import Path

import cotrain

project = "cotrain"
version = release = cotrain.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "cotrain"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
suppress_warnings = ["myst.xref_missing", "myst.header"]  # links in README and cards lead to files of the repository

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "cotrain"


def include(target: Path, page: Path) -> None:
    """A page that shows a file of the repository."""
    up = "../" * len(page.relative_to(HERE).parent.parts) + "../"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = f"```{{include}} {up}{target.relative_to(HERE.parent)}\n```\n"
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


cards = sorted(path for path in PACKAGE.glob("*/**/*.md") if path.with_suffix(".py").exists())
for card in cards:
    include(card, HERE / "_cards" / card.relative_to(PACKAGE))
listed = "\n".join(str(card.relative_to(PACKAGE).with_suffix("")) for card in cards)
index = HERE / "_cards" / "index.md"
index.write_text(f"# Cards\n\nOne page a method or estimator.\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n")
for name in ("CONTRIBUTING", "CHANGELOG"):
    include(HERE.parent / f"{name}.md", HERE / "_cards" / f"{name}.md")
