"""The house's rules for a notebook, checked without running it.

Each rule is a function that yields findings: (index of the cell, what is wrong and what to do).
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nbformat import NotebookNode

from nbtools import links
from nbtools.course import Course, outputs_hash
from nbtools.fingerprint import bound_names
from nbtools.overview import FACTS_FORM, claims, facts, minutes
from nbtools.project import Problem, Project, number, read, tags

SECTIONS = (
    "You will",
    "Setup",
    "From the documents",
    "What we measured",
    "Exercises",
    "Recap",
    "Where to go next",
    "Sources",
)
TAGS = {"setup", "claims", "exercise", "check", "solution", "pattern", "nbval-check-output"}
MAX_LINES, MAX_COLUMNS = 25, 110
MAX_BYTES, MAX_SECONDS, MAX_MEMORY_MB = 300_000, 120, 3000
MACHINE_PATH = re.compile(r"(?<![\w./:])/(?:home|root|tmp|Users|work|content|mnt|opt|usr|var)/\S*|\b[A-Z]:\\+\w\S*")
MEASURED = re.compile(
    r"(?<![\w.,/-])(?:"
    r"\d+(?:\.\d+)?\s?%"  # 87%, 3.5 %
    r"|0?\.\d+"  # 0.93, .93
    r"|\d+\.\d+\s?(?:s|ms|seconds|minutes|points|times|MB|GB|×)(?!\w)"  # 12.5 s
    r")(?![\w.]*\d)"
)
Rule = Iterator[tuple[int, str]]


@dataclass
class Section:
    """What stands under a `## ` heading: the prose, and the code cells with their indices."""

    title: str
    cell: int
    prose: str = ""
    code: list[tuple[int, NotebookNode]] = field(default_factory=list)


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
    def prose(self) -> list[tuple[int, NotebookNode]]:
        return [(i, cell) for i, cell in enumerate(self.nb.cells) if cell.cell_type == "markdown"]

    def tagged(self, tag: str) -> list[tuple[int, NotebookNode]]:
        return [(i, cell) for i, cell in self.code if tag in tags(cell)]

    @cached_property
    def sections(self) -> list[Section]:
        found = [Section("", 0)]
        for i, cell in enumerate(self.nb.cells):
            if cell.cell_type == "code":
                found[-1].code.append((i, cell))
                continue
            for line in without_code(cell.source).splitlines():
                if line.startswith("## "):
                    found.append(Section(line[3:].strip(), i))
                else:
                    found[-1].prose += line + "\n"
        return found[1:]

    def section(self, title: str) -> Section | None:
        return next((section for section in self.sections if _is(section, title)), None)


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
    try:
        _ = Course(project).first_edition
    except Problem as problem:
        findings.append(str(problem))
    for theme in project.themes.values():
        for wanted in set(theme.notebooks) - set(project.planned):
            findings.append(f"themes.toml: {theme.id} names notebook {wanted}, which no part holds: correct one")
    return findings


def without_code(source: str) -> str:
    """Markdown without fenced code, code spans, formulas, link targets and HTML comments, line by line."""
    source = re.sub(r"^(```|~~~).*?^\1.*?$", "", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]*`", "", source, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)|<[^>]*>|https?://\S+", "]", source)


def _is(section: Section, title: str) -> bool:
    return section.title == title or section.title.startswith(f"{title}:")


def _bullets(section: Section | None) -> int:
    return len(re.findall(r"^(?:[-*+]|\d+[.)]) ", section.prose, re.MULTILINE)) if section else 0


def _texts(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        yield output.get("text", "")
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield data if isinstance(data, str) else json.dumps(data)


def head(page: Page) -> Rule:
    """The name, the title, the buttons and the facts line."""
    planned = page.project.planned.get(number(page.path))
    if planned is None:
        yield 0, "the file's number is not in the plan: name it as notebooks/themes.toml has it"
    elif page.path.resolve().parent != (page.project.folder / planned.folder).resolve():
        yield 0, f"the notebook is in the wrong folder: move it to notebooks/{planned.folder}"
    first = page.nb.cells[0]
    titles = [i for i, cell in page.prose for _ in re.findall(r"^# ", without_code(cell.source), re.MULTILINE)]
    if first.cell_type != "markdown" or not re.match(rf"# {page.path.stem[:2]} \S", first.source) or titles != [0]:
        yield 0, f'the title is missing or not the only one: begin cell 1 with "# {page.path.stem[:2]} The title"'
    if links.buttons(page.project, page.path) not in first.source:
        yield 0, "the two buttons do not point to this notebook: run `make links`, or copy them from another notebook"
    found = facts(page.nb)
    if not found:
        yield 0, f"the facts line is missing or differs in form: write it as {FACTS_FORM}"
        return
    if not re.search(r"\b(real|simulated|synthesised|none)\b", found["data"]):
        yield 0, "the facts line does not say whether the data is real: say real, simulated, synthesised or none"
    listed, themes = found["themes"].split(", "), page.project.themes
    for theme in listed:
        if theme not in themes:
            yield 0, f"the facts line lists {theme}, which is no theme: choose from notebooks/themes.toml"
    for theme in themes.values():
        if number(page.path) in theme.notebooks and theme.id not in listed:
            yield 0, f"{theme.id} is planned for this notebook but not in its facts line: teach it, or change the plan"


def measurements(page: Page) -> Rule:
    """What `store` measured is there, and within the budget."""
    measured = page.nb.metadata.get("mmkit", {})
    if not {"seconds", "peak_memory_mb"} <= set(measured):
        yield 0, "its time and memory were not measured: store it"
        return
    if "outputs" in measured and measured["outputs"] != outputs_hash(page.nb):
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


def skeleton(page: Page) -> Rule:
    """The sections, in order; the objectives answered."""
    places = []
    for title in SECTIONS:
        found = [section.cell for section in page.sections if _is(section, title)]
        if len(found) != 1:
            yield 0, f'the section "## {title}" is there {len(found)} times: have it once'
        places += found[:1]
    if places != sorted(places):
        yield 0, f"the sections are out of order: {', '.join(SECTIONS)}"
    between = [s for s in page.sections if places and len(places) > 2 and places[1] < s.cell < places[2]]
    if not between:
        yield 0, 'nothing stands between "Setup" and "From the documents": teach the idea there'
    objectives, answers = page.section("You will"), page.section("Recap")
    if objectives and not 3 <= _bullets(objectives) <= 5:
        yield objectives.cell, f"{_bullets(objectives)} objectives: state three to five, as a bullet list"
    if objectives and answers and _bullets(objectives) != _bullets(answers):
        yield (
            answers.cell,
            f"the recap has {_bullets(answers)} points for {_bullets(objectives)} objectives: answer each, in order",
        )
    sources = page.section("Sources")
    if sources and not re.search(r"\b(1[89]|20)\d\d\b", sources.prose):
        yield sources.cell, "no source has a year: give authors, year and title"


def setup(page: Page) -> Rule:
    """One Setup cell, the kit's own first lines, and all imports in it."""
    cells = page.tagged("setup")
    if len(cells) != 1 or cells[0][0] != page.code[0][0]:
        yield page.code[0][0], 'the first code cell, and it alone, is the Setup cell: tag it "setup"'
    for i, cell in cells:
        if not cell.source.startswith(links.setup_block(page.project)):
            yield i, "the Setup cell does not begin as all do: run `make links`, or copy its head from another notebook"
        if "mmkit.seed()" not in cell.source:
            yield i, "the Setup cell does not take the seed: add SEED = mmkit.seed() and set it"
    for i, cell in page.code:
        if "setup" not in tags(cell):
            for node in ast.walk(_tree(cell)):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield i, f"an import in line {node.lineno}: move it to the Setup cell"


def code(page: Page) -> Rule:
    """Code that any reader's kernel can run, on one screen."""
    head_lines = len(links.setup_block(page.project).splitlines())
    for i, cell in page.code:
        lines = cell.source.splitlines()
        allowed = MAX_LINES + (head_lines if "setup" in tags(cell) else 0)
        if not cell.source.strip():
            yield i, "the code cell is empty: remove it"
        if len(lines) > allowed:
            yield i, f"{len(lines)} lines of code: split it, {allowed} fit on a screen"
        own = lines[head_lines:] if "setup" in tags(cell) else lines
        for n, line in enumerate(own, 1):
            if len(line) > MAX_COLUMNS:
                yield i, f"line {n} has {len(line)} characters: break it, {MAX_COLUMNS} at most"
        for n, line in enumerate(lines, 1):
            if re.match(r"\s*[!%]\w?", line) and not _parses(cell):
                yield i, f"line {n} is a shell line or a magic, whose failure no test sees: write it in Python"
                break
        else:
            if not _parses(cell):
                yield i, "this is not valid Python: correct it"
        for node in ast.walk(_tree(cell)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("get_ipython", "os.system", "subprocess.Popen", "subprocess.call"):
                    yield i, f"{called} hides failures: call Python, or subprocess.run(…, check=True)"
                if called == "subprocess.run" and "check" not in [keyword.arg for keyword in node.keywords]:
                    yield i, "subprocess.run without check=True hides failures: add it"
        if re.search(r"#\s*NBVAL_", cell.source):
            yield i, "an NBVAL comment is noise to a reader: use the tag nbval-check-output"
        for tag in set(tags(cell)) - TAGS:
            yield i, f"the tag {tag!r} is unknown: use {', '.join(sorted(TAGS))}"


def paths(page: Page) -> Rule:
    """No path of a machine; links that lead somewhere."""
    for i, cell in enumerate(page.nb.cells):
        places = [("source", cell.source)]
        places += [("output", text) for text in _texts(cell)] if cell.cell_type == "code" else []
        for where, text in places:
            found = MACHINE_PATH.search(text)
            if found:
                yield i, f"the {where} holds a path of a machine, {found[0][:40]}: use a relative path, or print less"
    for i, cell in page.prose:
        for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
            if not re.match(r"[a-z]+:|#", target) and not (page.path.parent / target.split("#")[0]).exists():
                yield i, f"the link to {target} leads nowhere: correct it, or name the lesson without a link"


def outputs(page: Page) -> Rule:
    """Outputs are stored, complete, small and free of noise."""
    counts = [cell.execution_count for _, cell in page.code]
    if counts != list(range(1, len(counts) + 1)):
        yield page.code[0][0], "the outputs are stripped or from several runs: store it"
    if page.path.stat().st_size > MAX_BYTES:
        size = page.path.stat().st_size // 1000
        yield 0, f"the notebook has {size} kB of at most {MAX_BYTES // 1000}: make its pictures smaller or fewer"
    if "widgets" in page.nb.metadata:
        yield 0, "the notebook holds widget state: store it"
    for i, cell in page.code:
        if "nbval-check-output" in tags(cell) and not cell.outputs:
            yield i, "its output is to be checked but there is none: print a verdict, or take off nbval-check-output"
        if "nbval-check-output" in tags(cell) and cell.source.rstrip().endswith(";"):
            yield i, "it ends in a semicolon, which nbval does not heed when it compares: take it off"
        for output in cell.outputs:
            if output.output_type == "error":
                yield i, "the stored output is an error: catch it in the cell and print what it says"
            if output.get("name") == "stderr":
                yield i, "the stored output holds stderr: find its cause, or send progress bars to sys.stdout"
            if any("widget" in kind for kind in output.get("data", {})):
                yield i, "the stored output is a widget, which no page can show: use text or a picture"
        text = "\n".join(_texts(cell))
        if re.search(r"Warning:|^WARNING", text, re.MULTILINE):
            yield i, "the stored output holds a warning: remove its cause"
        if re.search(r"<[^<>\n]* at 0x[0-9a-f]+>", text):
            yield i, "the stored output shows a memory address: end the cell with a semicolon, or assign the value"
        if _shows_picture(cell) and (i + 1 == len(page.nb.cells) or page.nb.cells[i + 1].cell_type != "markdown"):
            yield i, "no sentence follows the picture: say in a markdown cell what to see in it"


def claims_hold(page: Page) -> Rule:
    """One table of claims, under its heading, where all hold."""
    cells, section = page.tagged("claims"), page.section("What we measured")
    if len(cells) != 1 or not section or cells[0] not in section.code:
        where = section.cell if section else 0
        yield where, 'the claims have no place: put one cell under "What we measured", and tag it "claims"'
        return
    i, cell = cells[0]
    if not cell.source.rstrip().endswith(".table()"):
        yield i, "the cell does not end in claims.table(): end it so"
    rows = claims(page.nb)
    if not rows:
        yield i, "no table of claims is stored: store it"
    for row in rows:
        if row.verdict != "holds":
            yield i, f"the claim {row.text!r} does not hold: correct the text or the lesson"


def exercises(page: Page) -> Rule:
    """Two to four exercises: task, stub, check, solution."""
    section = page.section("Exercises")
    if not section:
        return
    inside = [i for i, _ in section.code]
    starts = [
        (i, int(match[1]))
        for i, cell in page.prose
        for match in re.finditer(r"^### Exercise (\d+): \S", without_code(cell.source), re.MULTILINE)
    ]
    if [n for _, n in starts] != list(range(1, len(starts) + 1)) or not 2 <= len(starts) <= 4:
        yield section.cell, "the exercises are not numbered 1 to 2, 3 or 4: head each with ### Exercise 1: what it is"
    ends = [i for i, _ in starts[1:]] + [inside[-1] + 1 if inside else 0]
    for (start, n), end in zip(starts, ends, strict=True):
        cells = [(i, cell) for i, cell in page.code if start < i < end]
        kinds = [tuple(kind for kind in ("exercise", "check", "solution") if kind in tags(cell)) for _, cell in cells]
        if kinds != [("exercise",), ("check",), ("solution",)]:
            yield start, f"exercise {n} is incomplete: have an exercise, a check and a solution cell, tagged so"
            continue
        (_, _), (c, check), (s, solution) = cells
        for i, cell in ((c, check), (s, solution)):
            if "nbval-check-output" not in tags(cell):
                yield i, "its verdict is not tested: tag it nbval-check-output too"
            if f"grade(check_{n}" not in cell.source:
                yield i, f"it does not end in grade(check_{n}, …): grade the answer there"
        if not _verdict(check).startswith("Not yet: "):
            yield c, 'the unsolved exercise does not print "Not yet: " and a reason: make the check say what to do'
        if _verdict(solution).strip() != "Right.":
            yield s, 'the solution does not print "Right." alone: correct it'
        if not solution.metadata.get("jupyter", {}).get("source_hidden"):
            yield s, "the solution is in plain sight: collapse it (jupyter.source_hidden)"
    tagged = {i for tag in ("exercise", "check", "solution") for i, _ in page.tagged(tag)}
    for i in sorted(tagged - set(inside)):
        yield i, 'an exercise cell outside of "Exercises": move it there'
    yield from _needs_solutions(page)


def _needs_solutions(page: Page) -> Rule:
    """A student copy has no solutions, so nothing may need a name that only they define."""
    defined: dict[bool, set[str]] = {True: set(), False: set()}
    used = []
    for i, cell in page.code:
        nodes, solution = list(ast.walk(_tree(cell))), "solution" in tags(cell)
        defined[solution] |= bound_names(nodes) | {node.arg for node in nodes if isinstance(node, ast.arg)}
        if not solution:
            used += [(i, node.id) for node in nodes if isinstance(node, ast.Name)]
    for i, name in used:
        if name in defined[True] - defined[False]:
            yield i, f"{name} comes from a solution, which student copies lack: define it elsewhere"


def prose(page: Page) -> Rule:
    """No measured number is typed into markdown."""
    sources = page.section("Sources")
    for i, cell in page.prose:
        text = without_code(cell.source)
        if sources and i == sources.cell:
            text = text.split("## Sources")[0]
        elif sources and i > sources.cell:
            continue
        for match in MEASURED.finditer(text):
            yield i, f"{match[0]!r} looks measured: compute and print it, or set a constant as a formula, $…$"


def _tree(cell: NotebookNode) -> ast.Module:
    try:
        return ast.parse(cell.source)
    except SyntaxError:
        return ast.Module([], [])


def _parses(cell: NotebookNode) -> bool:
    try:
        ast.parse(cell.source)
    except SyntaxError:
        return False
    return True


def _shows_picture(cell: NotebookNode) -> bool:
    for output in cell.outputs:
        data = output.get("data", {})
        page = "".join(data.get("text/html", ""))
        if any(kind.startswith("image/") for kind in data) or re.search(r"<(img|svg|video)\b", page):
            return True
    return False


def _verdict(cell: NotebookNode) -> str:
    """What the cell printed, if it printed once and showed nothing else."""
    return cell.outputs[0].text if len(cell.outputs) == 1 and cell.outputs[0].get("name") == "stdout" else ""


RULES = (head, measurements, skeleton, setup, code, paths, outputs, claims_hold, exercises, prose)
