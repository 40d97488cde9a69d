"""The house's rules for a notebook, checked without running it. What ruff and nbval see is left to them.

Each rule is a function that yields findings: (index of the cell, what is wrong and what to do).
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from nbformat import NotebookNode

from nbtools import links
from nbtools.course import Course, outputs_hash
from nbtools.overview import FACTS_FORM, claims, facts, minutes
from nbtools.project import Project, number, read, tags

VERDICTS = {  # what the cells with these tags print
    "check": (r"Not yet: .+", 'the unsolved exercise does not print "Not yet: " and a reason: make the check say it'),
    "solution": (r"Right\.", 'the solution does not print "Right." alone: correct it'),
}
EXERCISE = ["exercise", *VERDICTS]  # the tags of an exercise's cells, in this order
TAGS = {"setup", "claims", "pattern", "nbval-check-output", *EXERCISE}
MAX_LINES, MAX_COLUMNS = 25, 110
MAX_BYTES, MAX_SECONDS, MAX_MEMORY_MB = 300_000, 120, 3000
MACHINE_PATH = r"(?<![\w./:])/(?:home|root|tmp|Users|work|content|mnt|opt|usr|var)/\S*|\b[A-Z]:\\+\w\S*"
IN_SOURCE = {  # what no cell is to hold
    MACHINE_PATH: "the source holds a path of a machine: use a relative path",
    r"#\s*NBVAL_": "an NBVAL comment is noise to a reader: use the tag nbval-check-output",
    r"\b(?:get_ipython|os\.system|subprocess\.Popen|subprocess\.call)\(": "this call hides failures: call Python, or "
    "subprocess.run(…, check=True)",
}
IN_OUTPUT = {
    MACHINE_PATH: "the output holds a path of a machine: print less",
    r"(?m)Warning:|^WARNING": "the stored output holds a warning: remove its cause",
    r"<[^<>\n]* at 0x[0-9a-f]+>": "the stored output shows a memory address: assign the value, or end in a semicolon",
}
MEASURED = re.compile(
    r"(?<![\w.,/-])(?:"
    r"\d+(?:\.\d+)?\s?%"  # 87%, 3.5 %
    r"|0?\.\d+"  # 0.93, .93
    r"|\d+\.\d+\s?(?:s|ms|seconds|minutes|points|times|MB|GB|×)(?!\w)"  # 12.5 s
    r")(?![\w.]*\d)"
)
Rule = Iterator[tuple[int, str]]


@dataclass
class Page:
    """A notebook with what the rules ask of it. Cells are counted from 0 here, from 1 in a finding."""

    project: Project
    path: Path
    nb: NotebookNode

    @cached_property
    def code(self) -> list[tuple[int, NotebookNode]]:
        return [(i, cell) for i, cell in enumerate(self.nb.cells) if cell.cell_type == "code"]

    @cached_property
    def prose(self) -> list[tuple[int, str]]:
        """The markdown cells: what they say in words."""
        return [(i, _words(cell.source)) for i, cell in enumerate(self.nb.cells) if cell.cell_type == "markdown"]

    def tagged(self, tag: str) -> list[tuple[int, NotebookNode]]:
        return [(i, cell) for i, cell in self.code if tag in tags(cell)]


def lint(project: Project, path: Path) -> list[str]:
    """All findings in a notebook, each as `name:cell N: what is wrong: what to do`."""
    page = Page(project, path, read(path))
    if not page.code:
        return [f"{path.name}:cell 1: there is no code cell: write the lesson"]
    findings = [(cell, message) for rule in RULES for cell, message in rule(page)]
    return [f"{path.name}:cell {cell + 1}: {message}" for cell, message in sorted(findings)]


def lint_plan(project: Project) -> list[str]:
    """What is wrong with the set of notebooks as a whole."""
    findings, taken = [], {}
    for path in project.notebooks():
        if number(path) in taken:
            findings.append(f"{path.name}: number taken by {taken[number(path)]}: rename one of them")
        taken[number(path)] = path.name
    for theme, row in project.themes.items():
        for wanted in set(row["notebooks"]) - set(project.planned):
            findings.append(f"themes.toml: {theme} names notebook {wanted}, which no part holds: correct one")
    return findings


def _words(source: str) -> str:
    """Markdown without fenced code, code spans, formulas, link targets and HTML comments, line by line."""
    source = re.sub(r"^(```|~~~).*?^\1.*?$", "", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]*`", "", source, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)|<[^>]*>|https?://\S+", "]", source)


def head(page: Page) -> Rule:
    """The name, the title, the buttons and the facts line."""
    planned = page.project.planned.get(number(page.path))
    if planned is None:
        yield 0, "the file's number is not in the plan: name it as notebooks/themes.toml has it"
    elif page.path.resolve().parent != (page.project.folder / planned.folder).resolve():
        yield 0, f"the notebook is in the wrong folder: move it to notebooks/{planned.folder}"
    first, title = page.nb.cells[0].source, f"# {page.path.stem[:2]} "
    titles = [i for i, text in page.prose for _ in re.findall(r"^# ", text, re.MULTILINE)]
    if not first.startswith(title) or titles != [0]:
        yield 0, f'the title is missing or not the only one: begin cell 1 with "{title}The title"'
    if links.buttons(page.project, page.path) not in first:
        yield 0, "the two buttons do not point to this notebook: run `make links`, or copy them from another notebook"
    found = facts(page.nb)
    if not found:
        yield 0, f"the facts line is missing or differs in form: write it as {FACTS_FORM}"
        return
    if not re.search(r"\b(real|simulated|synthesised|none)\b", found["data"]):
        yield 0, "the facts line does not say whether the data is real: say real, simulated, synthesised or none"
    listed, themes = found["themes"].split(", "), page.project.themes
    for theme in set(listed) - set(themes):
        yield 0, f"the facts line lists {theme}, which is no theme: choose from notebooks/themes.toml"
    for theme, row in themes.items():
        if number(page.path) in row["notebooks"] and theme not in listed:
            yield 0, f"{theme} is planned for this notebook but not in its facts line: teach it, or change the plan"


def measurements(page: Page) -> Rule:
    """What `store` measured is there, and within the budget; the outputs are those that it stored."""
    measured = page.nb.metadata.get("mmkit", {})
    if not {"seconds", "peak_memory_mb"} <= set(measured):
        yield 0, "its time and memory were not measured: store it"
        return
    if measured.get("outputs", outputs_hash(page.nb)) != outputs_hash(page.nb):
        yield 0, "its outputs are not those that were stored: store it"
    if "fingerprint" not in measured and page.path not in Course(page.project).first_edition:
        yield 0, "it has no fingerprint: store it"
    found = facts(page.nb)
    if found and found["minutes"] != minutes(measured["seconds"]):
        yield 0, f"the facts line says {found['minutes']!r}, the measurement {minutes(measured['seconds'])!r}: store it"
    if measured["seconds"] > MAX_SECONDS:
        yield 0, f"it took {measured['seconds']} s of {MAX_SECONDS}: train less, or on less"
    if measured["peak_memory_mb"] > MAX_MEMORY_MB:
        yield 0, f"it took {measured['peak_memory_mb']} MB of {MAX_MEMORY_MB}: hold less in memory at once"
    size = page.path.stat().st_size
    if size > MAX_BYTES:
        yield 0, f"the notebook has {size // 1000} kB of at most {MAX_BYTES // 1000}: make its pictures smaller"


def setup(page: Page) -> Rule:
    """One Setup cell, the kit's own first lines, and all imports in it; the rest is Python too."""
    cells = page.tagged("setup")
    if len(cells) != 1 or cells[0][0] != page.code[0][0]:
        yield page.code[0][0], 'the first code cell, and it alone, is the Setup cell: tag it "setup"'
    for i, cell in cells:
        if not cell.source.startswith(links.setup_block(page.project)):
            yield i, "the Setup cell does not begin as all do: run `make links`, or copy its head from another notebook"
        if "mmkit.seed()" not in cell.source:
            yield i, "the Setup cell does not take the seed: add SEED = mmkit.seed() and set it"
    for i, cell in page.code:
        try:
            nodes = list(ast.walk(ast.parse(cell.source)))
        except SyntaxError:
            yield i, "this is no Python, but perhaps a shell line or a magic, whose failure no test sees: write Python"
            continue
        if "setup" not in tags(cell) and any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes):
            yield i, "an import outside of the Setup cell: move it there"


def code(page: Page) -> Rule:
    """Code that any reader's kernel can run, on one screen."""
    for i, cell in page.code:
        lines = cell.source.splitlines()
        if "setup" in tags(cell):
            lines = lines[len(links.setup_block(page.project).splitlines()) :]
        if len(lines) > MAX_LINES:
            yield i, f"{len(lines)} lines of code: split it, {MAX_LINES} fit on a screen"
        for n, line in enumerate(lines, 1):
            if len(line) > MAX_COLUMNS:
                yield i, f"line {n} has {len(line)} characters: break it, {MAX_COLUMNS} at most"
        for tag in set(tags(cell)) - TAGS:
            yield i, f"the tag {tag!r} is unknown: use {', '.join(sorted(TAGS))}"


def texts(page: Page) -> Rule:
    """Nothing in sources and outputs that is of one machine or mere noise; links that lead somewhere."""
    for i, cell in enumerate(page.nb.cells):
        yield from ((i, message) for pattern, message in IN_SOURCE.items() if re.search(pattern, cell.source))
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
                if not re.match(r"[a-z]+:|#", target) and not (page.path.parent / target.split("#")[0]).exists():
                    yield i, f"the link to {target} leads nowhere: correct it, or name the lesson without a link"
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "\n".join([output.get("text", ""), *(str(data[kind]) for kind in data if "image/" not in kind)])
            yield from ((i, message) for pattern, message in IN_OUTPUT.items() if re.search(pattern, text))
            if output.get("name") == "stderr":
                yield i, "the stored output holds stderr: find its cause, or send progress bars to sys.stdout"
            if any("widget" in kind for kind in data):
                yield i, "the stored output is a widget, which no page can show: use text or a picture"


def claims_hold(page: Page) -> Rule:
    """One table of claims, where all hold."""
    cells, rows = page.tagged("claims"), claims(page.nb)
    if len(cells) != 1:
        yield 0, 'the claims have no place: put them into one cell, and tag it "claims"'
    for i, cell in cells:
        if not cell.source.rstrip().endswith(".table()"):
            yield i, "the cell does not end in claims.table(): end it so"
        if not rows:
            yield i, "no table of claims is stored: store it"
        for text, _, _, verdict in rows:
            if verdict != "holds":
                yield i, f"the claim {text!r} does not hold: correct the text or the lesson"


def exercises(page: Page) -> Rule:
    """Two to four exercises: task, stub, check, solution."""
    heads = [(i, n) for i, text in page.prose for n in re.findall(r"^### Exercise (\d+): \S", text, re.MULTILINE)]
    if [int(n) for _, n in heads] != list(range(1, len(heads) + 1)) or not 2 <= len(heads) <= 4:
        yield 0, "the exercises are not numbered 1 to 2, 3 or 4: head each with ### Exercise 1: what it is about"
    for n, (start, end) in enumerate(pairwise([0, *(i for i, _ in heads), len(page.nb.cells)])):
        cells = [(tag, i, cell) for i, cell in page.code if start <= i < end for tag in tags(cell) if tag in EXERCISE]
        if not n and cells:
            yield cells[0][1], "an exercise cell stands before the first exercise: move it there"
        elif n and [tag for tag, _, _ in cells] != EXERCISE:
            yield start, f"exercise {n} is incomplete: have an exercise, a check and a solution cell, tagged so"
        for tag, i, cell in cells:
            if tag in VERDICTS:
                yield from ((i, message) for message in _faults_of_check(cell, n, *VERDICTS[tag]))
    for i, cell in page.tagged("solution"):
        if not cell.metadata.get("jupyter", {}).get("source_hidden"):
            yield i, "the solution is in plain sight: collapse it (jupyter.source_hidden)"


def _faults_of_check(cell: NotebookNode, n: int, verdict: str, wrong: str) -> Iterator[str]:
    if "nbval-check-output" not in tags(cell):
        yield "its verdict is not tested: tag it nbval-check-output too"
    if f"grade(check_{n}" not in cell.source:
        yield f"it does not end in grade(check_{n}, …): grade the answer there"
    if len(cell.outputs) != 1 or not re.fullmatch(verdict, cell.outputs[0].get("text", "").strip(), re.DOTALL):
        yield wrong


def prose(page: Page) -> Rule:
    """No measured number is typed into markdown, up to the sources."""
    for i, text in page.prose:
        text, sources, _ = text.partition("## Sources")
        for match in MEASURED.finditer(text):
            yield i, f"{match[0]!r} looks measured: compute and print it, or set a constant as a formula, $…$"
        if sources:
            return


RULES = (head, measurements, setup, code, texts, claims_hold, exercises, prose)
