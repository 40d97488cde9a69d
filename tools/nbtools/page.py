"""A lesson as one HTML page that loads nothing from elsewhere: for a room without a network, or to hand out."""

import html
import json
import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urljoin

from bs4 import BeautifulSoup, Tag
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from nbtools.links import BUTTONS
from nbtools.project import Problem

TEMPLATE = Path(__file__).with_name("page.html.j2")
LAB = Path(sys.prefix, "share", "jupyter", "lab", "static")
PLAIN_BUTTONS = re.compile(r"\[!\[([^]]*)\]\([^)]*\)\]")
KATEX = """
(() => {
  const self = {};
  %s
  const [, modules] = Object.values(self)[0][0], found = {};
  Object.values(modules)[0]({}, found, {
    d: (target, made) => { for (const name in made) Object.defineProperty(target, name, { get: made[name] }); },
  });
  window.katex = found.default;
})();
"""


class _Markdown(IPythonRenderer):
    """Formulas stay TeX in elements of their own, which the page sets in type."""

    def inline_math(self, body: str) -> str:
        return f'<span class="math">{self.escape_html(body)}</span>'

    def block_math(self, body: str) -> str:
        return f'<span class="math display">{self.escape_html(body)}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context: object, source: str) -> str:
        return MarkdownWithMath(renderer=_Markdown(escape=False)).render(source)


def page(nb: NotebookNode, title: str, address: str) -> str:
    """The lesson as one HTML page.

    Args:
        nb: the notebook, with its outputs.
        title: for the window.
        address: where the notebook lies in the web: its relative links lead from there.

    Raises:
        Problem: if JupyterLab's copy of KaTeX, which sets the formulas, is not found.
    """
    nb.cells[0].source = BUTTONS.sub(lambda match: PLAIN_BUTTONS.sub(r"[\1]", match[0]), nb.cells[0].source)
    exporter = _Exporter(raw_template=TEMPLATE.read_text(encoding="utf-8"))
    exporter.register_filter("alternative", _alternative)
    colours = HtmlFormatter().get_style_defs(".highlight")
    resources = {"metadata": {"name": title}, "colours": colours, "katex": _katex()}
    soup = BeautifulSoup(exporter.from_notebook_node(nb, resources=resources)[0], "html.parser")
    for link in soup.select("a[href]"):
        if not link["href"].startswith("#"):
            link["href"] = urljoin(address, link["href"])
    soup.main.insert_before(_contents(soup))
    return str(soup)


def _contents(soup: BeautifulSoup) -> Tag:
    """The table of contents: the sections, with the exercises in theirs."""
    items = []
    for heading in soup.main.select("h2[id], h3[id]"):
        text = html.escape(heading.get_text().removesuffix("¶"))
        line = f'<li><a href="#{html.escape(heading["id"])}">{text}</a></li>'
        items.append(line if heading.name == "h2" else f"<ul>{line}</ul>")
    made = f"<nav><details open><summary>Contents</summary><ul>{''.join(items)}</ul></details></nav>"
    return BeautifulSoup(made, "html.parser").nav


def _alternative(output: NotebookNode, kind: str) -> str:
    """The text alternative that is stored with a picture, as an attribute; without one the exporter says so."""
    stored = output.metadata.get(kind, {}).get("alt")
    return f' alt="{html.escape(stored)}"' if stored else ""


@cache
def _katex() -> str:
    """KaTeX as JavaScript that gives the page a variable `katex`: a part of JupyterLab's own files."""
    for path in LAB.glob("*.js"):
        if path.stat().st_size > 200_000 and "KaTeX parse error" in (text := path.read_text(encoding="utf-8")):
            packages = json.loads((LAB / "third-party-licenses.json").read_text(encoding="utf-8"))["packages"]
            (licence,) = (package["extractedText"] for package in packages if package["name"] == "katex")
            return f"/* KaTeX\n{licence.strip()} */" + KATEX % text.replace("</", "<\\/")
    raise Problem(f"{LAB} has no KaTeX, which sets the formulas: set the kit up again (`make clean setup`)")
