"""The notebook tools on the path, and their plugin, for every test of this checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))

pytest_plugins = ["nbtools.testing"]
