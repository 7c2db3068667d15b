"""The site, built by Sphinx: `make docs` writes it to docs/_build/html. Nothing is read from the net.

Pages are Markdown, as they are read on GitHub too. What lies outside of docs/ and belongs to the site, as
CONTRIBUTING.md, has a page here that stands for it. The verbs are written from the code, the notebooks are computed.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import hpc  # noqa: E402
from hpc.cli import help as verb_help  # noqa: E402
from hpc.cli import table  # noqa: E402

project, author, copyright = "hpc-eegdecode", "the authors of hpc-eegdecode", "the authors of hpc-eegdecode, MIT"
release = version = hpc.__version__
extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design",
    "sphinx_gallery.gen_gallery",
]  # fmt: skip
exclude_patterns = ["_build", "_extra", "gallery"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
# A link to a file of the code is a download; a section of a page of the code's own is not looked for in it
suppress_warnings = ["config.cache"]
default_role = "literal"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "computed"}
autodoc_preserve_defaults = True
napoleon_use_ivar = True
copybutton_prompt_text = "$ "

html_theme = "pydata_sphinx_theme"
html_title = "hpc-eegdecode"
html_static_path = ["_static"]
html_extra_path = ["_extra"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc", "sg_download_links"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "notebooks",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "first_notebook_cell": "%matplotlib inline",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "backreferences_dir": None,
    "min_reported_time": 1,
    "write_computation_times": False,  # a page that loads scripts from the net
}

STANDS_FOR = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md", "environments": "env/README.md"}
"""Pages whose text is a file outside of docs/."""
LINK = re.compile(r"(?<=\]\()([^)#\s]+)((?:#[^)]*)?)(?=\))")
LINES = {"demo": ("demo",), "motor": ("motor-eegnet", "--preset", "size=tiny")}
"""The runs that notebooks open and the landing page shows. Equal settings are one run: the second time it is there."""


def page_of(path: Path, anchor: str) -> str:
    """Where a link to a file leads on the site; a folder, or a file that is no page, is one of the repository."""
    outside = {ROOT / file: name for name, file in STANDS_FOR.items()}
    if path in outside:
        return f"/{outside[path]}.md{anchor}"
    if path == HERE / "decisions":
        return "/decisions.md"
    if path == HERE / "gallery":
        return "/notebooks/index.rst"
    if path == ROOT / "README.md":
        return "/index.md"
    if path.suffix == ".md" and path.is_relative_to(HERE):
        return f"/{path.relative_to(HERE)}{anchor}"
    return ""


def with_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Read what a page stands for, and let links lead to pages of the site; others become the names of their files."""
    place = HERE / f"{docname}.md"
    if docname in STANDS_FOR:
        place = ROOT / STANDS_FOR[docname]
        source[0] = place.read_text()
    if not place.exists():
        return

    def at_site(match: re.Match[str]) -> str:
        link, anchor = match.groups()
        if "://" in link:
            return match[0]
        return page_of((place.parent / link).resolve(), anchor) or match[0]

    source[0] = LINK.sub(at_site, source[0])
    # What is left leads to files of the repository, which the site does not have
    source[0] = re.sub(r"\[([^\]]+)\]\((?!/|#)[^):]+\)", r"\1", source[0]) if docname != "index" else source[0]


def write_verbs(app: Sphinx) -> None:
    """The page of all verbs, from their help."""
    os.environ["COLUMNS"] = "90"
    lines = ["# Verbs", "", "What `hpc VERB --help` prints. Stages are verbs too: [their settings](index.md).", ""]
    for name in sorted(table.verbs()):
        lines += [f"## {name}", "", "```text", verb_help.text(name).rstrip(), "```", ""]
    page = HERE / "reference/verbs.md"
    text = "\n".join(lines)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def run_lines(app: Sphinx) -> None:
    """Compute the runs that the gallery opens, in runs/ of the checkout, and put their pages onto the site."""
    extra, lab = HERE / "_extra/demo", HERE / "gallery/runs"
    extra.mkdir(parents=True, exist_ok=True)
    (ROOT / "runs").mkdir(exist_ok=True)
    if not lab.is_symlink():
        lab.symlink_to(ROOT / "runs", target_is_directory=True)
    for name, words in LINES.items():
        line = [sys.executable, "-m", "hpc.launch", "pipeline", *words, "--on", "local", "--json"]
        done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        for row in json.loads(done.stdout):
            for page in (ROOT / "runs" / row["run"] / "out").glob("*.html"):
                shutil.copy(page, extra / f"{name}-{page.name}")


def keep_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """In the sentence of a property, napoleon takes what stands before a colon for its type."""
    if what in ("property", "attribute"):
        lines[:] = [line.replace(": ", " – ") for line in lines]


class _OfPlace(logging.Filter):
    """Where the checkout lies is no fault of the pages."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "file name(s) with spaces" not in record.getMessage()


logging.getLogger("sphinx.sphinx-gallery").addFilter(_OfPlace())


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("source-read", with_links)
    app.connect("config-inited", lambda app, config: write_verbs(app))
    app.connect("config-inited", lambda app, config: run_lines(app), priority=100)
