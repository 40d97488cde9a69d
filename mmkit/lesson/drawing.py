"""The running drawing of a lesson: an architecture as boxes and arrows, with the part in hand lit."""

import base64
import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

SIZE = 13  # of the letters, in pixels
LINE, PADDING, GAP_X, GAP_Y = 17, 10, 34, 16  # pixels
WIDEST = 920  # pixels that a page shows
QUIET, LIT, INK, ARROW = "#f2f2f2", "#0072B2", "#222222", "#767676"


@dataclass(frozen=True)
class Drawing:
    """Boxes and arrows from left to right, drawn where a cell ends in one.

    A box stands one column behind the last box that leads to it, in the row of the first chain that names it; where
    several chains meet, in their middle.

    Attributes:
        chains: one per row, each boxes by name with arrows between: `"image > convolutions > join"`. A box that
            several chains name is one box.
        labels: what is written in a box, by its name; by default its name. A second line, after a line break, is
            written smaller: for shapes.
        lit: the names of the boxes to light.

    Raises:
        ValueError: if there is no box, a box leads to itself, or `labels` or `lit` names a box that is in no chain.

    Example:
        >>> from mmkit.lesson import Drawing
        >>> late = Drawing(
        ...     ["image > convolutions > join", "touch > LSTM > join > ten scores"],
        ...     labels={"image": "image\\n28 × 28"},
        ... )
        >>> late.light("LSTM")  # a copy, one part lit
        image > convolutions > join
        touch > [LSTM] > join > ten scores
    """

    chains: Iterable[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    lit: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "chains", tuple(self.chains))
        names = {name for names in self._rows() for name in names}
        if not names or "" in names:
            raise ValueError(f"a drawing wants chains of boxes, such as 'image > branch > join': got {self.chains!r}")
        for what, wanted in (("labels", self.labels), ("lit", self.lit)):
            for name in set(wanted) - names:
                raise ValueError(f"{what} names {name!r}, which is in no chain: choose from {', '.join(sorted(names))}")
        self._columns()

    def light(self, *names: str) -> "Drawing":
        """The same drawing with these boxes lit, and no others.

        Raises:
            ValueError: if one of them is in no chain.
        """
        return replace(self, lit=names)

    def _rows(self) -> list[list[str]]:
        return [[name.strip() for name in chain.split(">")] for chain in self.chains]

    def _arrows(self) -> list[tuple[str, str]]:
        pairs = (pair for names in self._rows() for pair in zip(names, names[1:]))
        return list(dict.fromkeys(pairs))

    def _columns(self) -> dict[str, int]:
        """How many arrows lead to each box, at most."""
        columns = {name: 0 for names in self._rows() for name in names}
        arrows = self._arrows()
        for _ in columns:
            moved = False
            for start, end in arrows:
                if columns[end] <= columns[start]:
                    columns[end], moved = columns[start] + 1, True
            if not moved:
                return columns
        raise ValueError(f"a box of this drawing leads back to itself: {'; '.join(self.chains)}")

    def _heights(self) -> dict[str, float]:
        """The row of each box."""
        rows: dict[str, list[int]] = {}
        for row, names in enumerate(self._rows()):
            for name in names:
                rows.setdefault(name, []).append(row)
        columns, arrows, heights = self._columns(), self._arrows(), {}
        for name in sorted(rows, key=columns.get):
            before = [start for start, end in arrows if end == name]
            if len(before) == 1 and [start for start, _ in arrows].count(before[0]) == 1:
                heights[name] = heights[before[0]]  # it alone follows that box
            elif before and len(rows[name]) > 1:
                heights[name] = sum(heights[start] for start in before) / len(before)
            else:
                heights[name] = sum(rows[name]) / len(rows[name])
        return heights

    def _lines(self, name: str) -> list[str]:
        return self.labels.get(name, name).split("\n")

    def _repr_html_(self) -> str:
        """As a picture with a text alternative: JupyterLab shows this of a notebook that has not been run here, too."""
        code = base64.b64encode(self.svg().encode()).decode()
        return f'<img alt="{html.escape(repr(self))}" src="data:image/svg+xml;base64,{code}">'

    def svg(self) -> str:
        """The drawing as SVG.

        Example:
            >>> from mmkit.lesson import Drawing
            >>> Drawing(["x > y"]).svg()[:4]
            '<svg'
        """
        columns, heights = self._columns(), self._heights()
        width, left = {}, {}
        for column in range(max(columns.values()) + 1):
            names = [name for name in columns if columns[name] == column]
            width[column] = max(_width(line) for name in names for line in self._lines(name)) + 2 * PADDING
            left[column] = left[column - 1] + width[column - 1] + GAP_X if column else 4
        tall = max(len(self._lines(name)) for name in columns) * LINE + PADDING
        across = left[max(left)] + width[max(width)] + 4
        down = (max(heights.values()) + 1) * (tall + GAP_Y) - GAP_Y + 8
        place = {name: (left[columns[name]], 4 + heights[name] * (tall + GAP_Y)) for name in columns}
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across:.0f} {down:.0f}" '
            f'width="{min(across, WIDEST):.0f}" role="img" font-family="DejaVu Sans, Verdana, sans-serif">',
            f"<title>{html.escape(repr(self))}</title>",
            f'<rect width="{across:.0f}" height="{down:.0f}" fill="white"/>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{ARROW}"/></marker></defs>',
        ]
        for start, end in self._arrows():
            x, y = place[start][0] + width[columns[start]], place[start][1] + tall / 2
            to_x, to_y = place[end][0] - 2, place[end][1] + tall / 2
            bend = to_x - GAP_X + 6
            line = f"M{x:.0f},{y:.0f} L{bend:.0f},{y:.0f} L{to_x - 8:.0f},{to_y:.0f} L{to_x:.0f},{to_y:.0f}"
            parts.append(f'<path d="{line}" fill="none" stroke="{ARROW}" stroke-width="1.6" marker-end="url(#tip)"/>')
        for name, (x, y) in place.items():
            lit = name in self.lit
            parts.append(
                f'<rect x="{x:.0f}" y="{y:.0f}" width="{width[columns[name]]}" height="{tall}" rx="5" '
                f'fill="{LIT if lit else QUIET}" stroke="{LIT if lit else ARROW}"/>'
            )
            lines = self._lines(name)
            top = y + tall / 2 - (len(lines) - 1) * LINE / 2
            for number, line in enumerate(lines):
                parts.append(
                    f'<text x="{x + width[columns[name]] / 2:.0f}" y="{top + number * LINE:.0f}" text-anchor="middle" '
                    f'dominant-baseline="central" font-size="{SIZE - 2 * bool(number)}" '
                    f'fill="{"white" if lit else INK}">{html.escape(line)}</text>'
                )
        return "\n".join([*parts, "</svg>"])

    def __repr__(self) -> str:
        def said(name: str) -> str:
            return f"[{name}]" if name in self.lit else name

        return "\n".join(" > ".join(map(said, names)) for names in self._rows())


def _width(text: str) -> int:
    """About how wide a text is, in pixels."""
    return int(sum(0.35 if letter in "iljt.,:;|'! ()" else 0.9 if letter in "mwMW" else 0.64 for letter in text) * SIZE)
