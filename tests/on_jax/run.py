"""`make test-jax`: the layers and the losses on Keras's JAX backend.

Makes `.venv-jax` with JAX beside the locked packages, and runs in it the tests of what is written in `keras.ops` alone:
`mmkit.layers`. JAX compiles each step anew, so the first run takes long; what it compiled is kept in
the environment, and the next runs are quicker.

    python tests/on_jax/run.py            all of that
    python tests/on_jax/run.py -k Gated   only the tests that pytest chooses by these options
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import elsewhere  # noqa: E402

TESTS = ("tests/test_layers.py", "tests/test_layer_formulas.py", "tests/test_layer_calls.py", "tests/test_balancing.py")


def main() -> None:
    python = elsewhere.set_up("jax", sys.executable)
    check_import(python)
    print("The layers' tests on JAX:", flush=True)
    # One file holds nearly all of them: shared out test by test, or one process would wait for the other.
    elsewhere.run_tests(python, "--dist=load", *TESTS, *sys.argv[1:], **settings())


def settings() -> dict[str, str]:
    """The environment variables under which Keras uses JAX, and JAX the processor and its store of compiled code."""
    return {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(elsewhere.ROOT / ".venv-jax" / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def check_import(python: Path) -> None:
    """Ends the run with an error if the layers load TensorFlow when Keras does not use it."""
    code = "import sys, mmkit.layers; sys.exit('tensorflow' in sys.modules)"
    environment = {**elsewhere.os.environ, **settings(), "PYTHONPATH": str(elsewhere.ROOT)}
    if subprocess.run([python, "-c", code], env=environment).returncode:
        sys.exit("On JAX, mmkit.layers does not import, or loads TensorFlow, which it must not need.")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the command has said what was wrong
