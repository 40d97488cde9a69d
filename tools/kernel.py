"""The kernel that set-up gives .venv: IPython's own, which does not tell its Python's version.

JupyterLab writes what a kernel tells of itself into the notebook, and shows the notebook as changed where that is
something new. What this one tells is the same on every Python, and `nbtools.project.METADATA` is what lessons hold.
"""

import sys

sys.path.pop(0)  # the folder of this file: a lesson imports nothing from it

from ipykernel.ipkernel import IPythonKernel  # noqa: E402
from ipykernel.kernelapp import launch_new_instance  # noqa: E402

if __name__ == "__main__":
    del IPythonKernel.language_info["version"]
    launch_new_instance()
