"""For every test of this checkout: the notebook tools on the path, and the plugin that tests lessons."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent / folder) for folder in ("tools", "tests")]

pytest_plugins = ["nbval_lessons"]
