"""The documentation as a site: python -m sphinx -W --keep-going docs site. Needs the extra `docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

from tool_help import write_tool_help  # noqa: E402

import ean_mmdet  # noqa: E402

project = 'ean_mmdet'
author = 'the ean_mmdet authors'
version = release = ean_mmdet.__version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'sphinx_copybutton']
source_suffix = {'.md': 'myst-nb', '.ipynb': 'myst-nb'}
nb_execution_mode = 'off'  # the notebook is stored with its outputs, and a test runs it
exclude_patterns = ['results/*/README.md', '_build']
myst_heading_anchors = 4
suppress_warnings = ['myst.header']

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = 'furo'
html_title = f'ean_mmdet {release}'
html_static_path = ['_static']


def name_places(app: object, name: str, source: list[str]) -> None:
    """Show a link to a folder or a page elsewhere in the repository as its name: a site has neither."""
    here = (DOCS / name).parent

    def shown(link: re.Match) -> str:
        place = (here / link[2]).resolve()
        elsewhere = place.is_dir() or (place.suffix == '.md' and DOCS not in place.parents)
        return f'`{place.relative_to(ROOT)}`' if elsewhere and ROOT in place.parents else link[0]

    source[0] = re.sub(r'\[([^\]]*)\]\(([^)#:]+)\)', shown, source[0])


def setup(app) -> None:
    write_tool_help(DOCS / 'reference' / 'tools.md')
    app.connect('source-read', name_places)
