"""The house's rules for a lesson, checked without running it. What ruff and nbval see is left to them.

Each rule is a function that yields findings: (index of the cell, what is wrong and what to do). `RULES` hold for every
lesson, those of `FORM` for all but the first edition's, which are to be made anew.
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
from nbtools.overview import FACTS_FORM, MEASURED_CELLS, captions, claims, facts, minutes, reading_minutes, words
from nbtools.project import FOLDED, Number, Project, number, read, tags

VERDICTS = {  # what the cells with these tags print
    "check": (r"Not yet: .+", 'the unsolved exercise does not print "Not yet: " and a reason: make the check say it'),
    "solution": (r"Right\.", 'the solution does not print "Right." alone: correct it'),
}
EXERCISE = ["exercise", *VERDICTS]  # the tags of an exercise's cells, in this order
TAGS = {"setup", "claims", "more-checks", "drawing", "folded", "pattern", "slide", "nbval-check-output", *EXERCISE}
MAX_LINES, MAX_COLUMNS = 25, 110
MAX_WORDS, MAX_CODE, MAX_CELLS = 2500, 250, 60  # of a lesson; code without Setup, exercises and what is folded
MAX_SETUP, MAX_PATTERN, MAX_MISTAKE = 10, 20, 5  # lines after the fixed block; lines; cells
SECTIONS = ("You will", "Setup", "A mistake to recognise", "What we measured", "In your own project", "Exercises")
SECTIONS += ("Recap", "Where to go next", "Sources")  # in this order, among the lesson's own
MENTION = re.compile(r"\b[Ll]essons?\s+((?:(?:0\b|\d\.\d+)(?:\s+\(planned\))?(?:,\s+|\s+(?:and|or|to)\s+)?)+)")
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
        return [(i, words(cell.source)) for i, cell in enumerate(self.nb.cells) if cell.cell_type == "markdown"]

    @cached_property
    def first_edition(self) -> bool:
        return self.path in Course(self.project).first_edition

    @cached_property
    def sections(self) -> list[tuple[int, str]]:
        """The headings of the second level, each with its cell."""
        return [(i, title) for i, text in self.prose for title in re.findall(r"^## (.+?) *$", text, re.MULTILINE)]

    def tagged(self, tag: str) -> list[tuple[int, NotebookNode]]:
        return [(i, cell) for i, cell in self.code if tag in tags(cell)]


def lint(project: Project, path: Path) -> list[str]:
    """All findings in a notebook, each as `name:cell N: what is wrong: what to do`."""
    page = Page(project, path, read(path))
    if not page.code:
        return [f"{path.name}:cell 1: there is no code cell: write the lesson"]
    rules = RULES if page.first_edition else RULES + FORM
    findings = [(cell, message) for rule in rules for cell, message in rule(page)]
    return [f"{path.name}:cell {cell + 1}: {message}" for cell, message in sorted(findings)]


def lint_plan(project: Project) -> list[str]:
    """What is wrong with the set of notebooks as a whole."""
    findings, taken = [], {}
    for path in project.notebooks():
        if number(path) in taken:
            findings.append(f"{path.name}: number taken by {taken[number(path)]}: rename one of them")
        taken[number(path)] = path.name
    for theme, row in project.themes.items():
        for wanted in set(row["lessons"]) - set(project.planned):
            findings.append(f"themes.toml: {theme} names lesson {wanted}, which no part holds: correct one")
    return findings


def head(page: Page) -> Rule:
    """The name, the title, the buttons and the facts line."""
    planned = page.project.planned.get(number(page.path))
    if planned is None:
        yield 0, "the file's number is not in the plan: name it as notebooks/themes.toml has it"
    elif page.path.resolve().parent != (page.project.folder / planned.folder).resolve():
        yield 0, f"the notebook is in the wrong folder: move it to notebooks/{planned.folder}"
    first, title = page.nb.cells[0].source, f"# {number(page.path)} "
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
    existing = {number(path) for path in page.project.notebooks()} - {number(page.path)}
    for text in found["before"].split(", ") if found["before"] != "nothing" else ():
        if Number.of(text) not in existing:
            yield 0, f"the facts line wants lesson {text} before this one, and there is none: name lessons that exist"


def mentions(page: Page) -> Rule:
    """Lessons are called by their numbers, and those that do not exist yet are called planned."""
    existing = {number(path) for path in page.project.notebooks()}
    for i, cell in enumerate(page.nb.cells):
        for mention in MENTION.findall(cell.source):
            for text, planned in re.findall(r"(\d(?:\.\d+)?)(\s+\(planned\))?", mention):
                if Number.of(text) not in page.project.planned:
                    yield i, f"there is no lesson {text}: correct the number"
                elif Number.of(text) in existing and planned:
                    yield i, f"lesson {text} exists: it is planned no longer"
                elif Number.of(text) not in existing and not planned:
                    yield i, f'lesson {text} does not exist yet: write "lesson {text} (planned)"'
        for text in re.findall(r"\b[Ll]essons?\s+(\d\d)\b(?!\.\d)", cell.source):
            yield i, f"lessons are numbered in pairs, as in 2.1: correct {text}"


def measurements(page: Page) -> Rule:
    """What `store` measured is there, and within the budget; the outputs are those that it stored."""
    measured = page.nb.metadata.get("mmkit", {})
    if not {"seconds", "peak_memory_mb"} <= set(measured):
        yield 0, "its time and memory were not measured: store it"
        return
    if measured.get("outputs", outputs_hash(page.nb)) != outputs_hash(page.nb):
        yield 0, "its outputs are not those that were stored: store it"
    if "fingerprint" not in measured and not page.first_edition:
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
        if not re.search(r"\b(?:lesson\.setup|mmkit\.seed)\(\)", cell.source):
            yield i, "the Setup cell does not take the seed: add SEED = lesson.setup()"
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
    for tag in MEASURED_CELLS:
        for i, _ in page.tagged(tag):
            for row in claims(page.nb, tag):
                if not row["holds"]:
                    yield i, f"the claim {row['text']!r} does not hold: correct the text or the lesson"


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


def folded(page: Page) -> Rule:
    """What is folded is so in JupyterLab and on Colab, and its first line, which shows, gives nothing away."""
    for tag in sorted(FOLDED):
        for i, cell in page.tagged(tag):
            hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
            if not hidden or cell.metadata.get("cellView") != "form":
                yield i, 'the cell is in plain sight: give it the metadata jupyter.source_hidden and cellView "form"'
            if not re.match(r"# @title \w", cell.source):
                yield i, "the folded cell shows its first line: begin it with # @title and what it is"


def paragraphs(page: Page) -> Rule:
    """No line of a paragraph begins as a list, a heading or a quotation does, for then it is one."""
    for i, cell in enumerate(page.nb.cells):
        if cell.cell_type == "markdown":
            for line in broken_lines(cell.source):
                yield i, f"a line in a paragraph begins with {line[:12]!r}, which makes a list: break it elsewhere"


def broken_lines(source: str) -> list[str]:
    """The lines of markdown that go on with a paragraph but begin as a list, a heading or a quotation does.

    A list right after a line that ends in a colon is meant to be one.
    """
    plain = re.sub(r"^(```|~~~).*?^\1.*?$", "", source, flags=re.DOTALL | re.MULTILINE)
    plain = re.sub(r"\$\$.*?\$\$", lambda match: re.sub(r"[^\n]", "x", match[0]), plain, flags=re.DOTALL)
    broken = []
    for block in re.split(r"\n\s*\n", plain):
        kind = ""  # of the block: the sign that begins its items, or nothing for a paragraph
        for before, line in pairwise(["", *block.splitlines()]):
            sign = re.match(r"\s*([-+*>]|#{1,6}|1[.)])(?= \S)", line)
            if before == "" or (sign and before.rstrip().endswith(":")):
                kind = sign[1] if sign else ""
            elif sign and sign[1] != kind and not re.match(r"\s*[#>|]", before):
                broken.append(line.strip())
    return broken


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


def sections(page: Page) -> Rule:
    """The parts of a lesson, in order; the documents' mistakes where the plan has some for it."""
    mistakes = [theme for theme, row in page.project.themes.items() if theme[0] == "E" and _planned_here(page, row)]
    wanted = [name for name in SECTIONS if mistakes or name != "A mistake to recognise"]
    found = [name for _, name in page.sections if name in SECTIONS]
    if found != wanted:
        missing = [name for name in wanted if name not in found] or ["their order"]
        extra = [name for name in found if name not in wanted]
        what = f"{', '.join(missing)}" if not extra else f"{', '.join(extra)}, which the plan gives no row for"
        yield 0, f"the sections are not those of a lesson, in order: see to {what}"
    starts = [*page.sections, (len(page.nb.cells), "")]
    for (start, name), (end, _) in pairwise(starts):
        within = [i for i, _ in page.code if start <= i < end]
        if name == "A mistake to recognise" and len(within) > MAX_MISTAKE:
            yield start, f"{len(within)} cells of code on the mistake: {MAX_MISTAKE} at most"
        if name == "In your own project" and [i for i, _ in page.tagged("pattern")] != within:
            yield start, "what a reader takes home is one cell, under this heading: tag it pattern"


def _planned_here(page: Page, row: dict) -> bool:
    return number(page.path) in row["lessons"]


def limits(page: Page) -> Rule:
    """What fits into the time of a lesson."""
    apart = {"setup", "drawing", *EXERCISE, *FOLDED}
    lines = sum(_lines(cell.source) for _, cell in page.code if not apart & set(tags(cell)))
    count = sum(len(text.split()) for _, text in page.prose)
    for number_of, most, what in ((count, MAX_WORDS, "words"), (lines, MAX_CODE, "lines of code")):
        if number_of > most:
            yield 0, f"{number_of:,} {what} of {most:,}: one idea a lesson; leave out, or make two of it"
    if len(page.nb.cells) > MAX_CELLS:
        yield 0, f"{len(page.nb.cells)} cells of {MAX_CELLS}: one idea a lesson; leave out, or make two of it"
    if count < 10 * lines:
        yield 0, f"{count:,} words for {lines} lines of code: explain more, or show less code (ten a line)"
    block = _lines(links.setup_block(page.project))
    for tag, most in (("setup", MAX_SETUP + block), ("pattern", MAX_PATTERN)):
        for i, cell in page.tagged(tag):
            if _lines(cell.source) > most:
                yield i, f"{_lines(cell.source)} lines in the cell tagged {tag}: {most} at most"
    found = facts(page.nb)
    if found and int(found["reading"]) != reading_minutes(page.nb):
        yield 0, f"it takes {reading_minutes(page.nb)} minutes to read and try, the facts line says another: store it"


def _lines(source: str) -> int:
    """Lines of code, the empty ones not counted."""
    return sum(bool(line.strip()) for line in source.splitlines())


def headlines(page: Page) -> Rule:
    """Three to six claims in whole sentences, and nothing else in their cell; the further checks counted."""
    rows = claims(page.nb)
    for i, cell in page.tagged("claims"):
        if rows and not 3 <= len(rows) <= 6:
            yield i, f"{len(rows)} claims: have three to six, and put the others into the cell of further checks"
        for row in rows:
            if not re.fullmatch(r"[A-Z0-9“\"].*[.]", row["text"]):
                yield i, f"the claim {row['text']!r} is no sentence: begin with a capital, end with a full stop"
        for node in ast.parse(cell.source).body:
            if not re.match(r"claims = Claims\(\)|claims\.(?:check|table)\(", ast.unparse(node)):
                yield i, "the claims' cell computes: leave claims.check(…) and claims.table() in it alone"
                break
    for i, cell in page.tagged("more-checks"):
        if not cell.source.rstrip().endswith(".count()"):
            yield i, "the cell of further checks does not end in checks.count(): end it so"


def figures(page: Page) -> Rule:
    """A drawing, and for each figure a caption, which is its text alternative."""
    if not page.tagged("drawing"):
        yield 0, "the lesson has no drawing: show what is built with lesson.Drawing, in a cell tagged drawing"
    for i, caption in captions(page.nb).items():
        if not caption:
            yield i, "the figure has no caption: begin the next cell with a true sentence in italics, *…*"
        for output in page.nb.cells[i].outputs if caption else ():
            for kind in output.get("data", {}):
                if kind.startswith("image/") and output.metadata.get(kind, {}).get("alt") != caption:
                    yield i, "the figure's text alternative is not its caption: store it"


RULES = (head, mentions, measurements, setup, code, texts, claims_hold, exercises, folded, paragraphs, prose)
FORM = (sections, limits, headlines, figures)
