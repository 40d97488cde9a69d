"""`make test-gpu`: the layers on a GPU by Keras's JAX backend, and the fusion transformer's step against PyTorch's.

For a machine with a GPU, with JAX and PyTorch that use it. TensorFlow and Keras may be missing, and so may a network:
what pip has to bring is fetched beforehand, where there is one, into the checkout's folder build/gpu, and travels with
the checkout. It takes under eight minutes: what is not done by then counts as failed.

    python tests/on_jax/gpu.py --fetch           where there is a network: brings Keras and what the tests need
    python tests/on_jax/gpu.py                   where there is a GPU: all of it, by the Python that has JAX and PyTorch
    python tests/on_jax/gpu.py -k FusionTransf   only the tests that pytest chooses by these options
    python tests/on_jax/gpu.py --cpu             the same on the processor, to try the script itself

It prints what it runs, and closes with a line `N passed, N failed`.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import run

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("requirements.lock")
WHEELS = ROOT / "build" / "gpu" / "wheels"
PACKAGES = ROOT / "build" / "gpu" / "packages"  # what this machine lacks, unpacked from the wheels
# From a package's name to the module that it brings. JAX, PyTorch and NumPy are the machine's own.
NEEDED = {
    "keras": "keras", "absl-py": "absl", "h5py": "h5py", "markdown-it-py": "markdown_it", "mdurl": "mdurl",
    "ml-dtypes": "ml_dtypes", "namex": "namex", "optree": "optree", "packaging": "packaging", "pygments": "pygments",
    "rich": "rich", "typing-extensions": "typing_extensions", "keras-hub": "keras_hub", "kagglehub": "kagglehub",
    "regex": "regex", "filelock": "filelock", "psutil": "psutil", "pytest": "pytest", "iniconfig": "iniconfig",
    "pluggy": "pluggy", "pytest-xdist": "xdist", "execnet": "execnet", "kagglesdk": "kagglesdk", "pyyaml": "yaml",
    "requests": "requests", "tqdm": "tqdm", "protobuf": "google.protobuf", "certifi": "certifi", "idna": "idna",
    "charset-normalizer": "charset_normalizer", "urllib3": "urllib3", "tokenizers": "tokenizers",
}  # fmt: skip
PYTHONS = ("3.11", "3.12", "3.13")
TESTS = ("tests/on_jax/test_devices.py", *run.TESTS)
ROUNDS = 3
BATCHES = (40, 512)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make test-gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--fetch", action="store_true", help="bring the packages, where there is a network")
    parser.add_argument("--cpu", action="store_true", help="on the processor, to try the script itself")
    parser.add_argument("--minutes", type=float, default=7.5, help="in which all has to be done")
    arguments, options = parser.parse_known_args()
    if arguments.fetch:
        return fetch()
    start = time.monotonic()
    environment = set_up(arguments.cpu)
    print(describe(environment, arguments.cpu), flush=True)
    passed, failed = steps(environment, arguments.cpu)
    more = layer_tests(environment, options, 60 * arguments.minutes - (time.monotonic() - start))
    passed, failed = passed + more[0], failed + more[1]
    print(f"\nIn {(time.monotonic() - start) / 60:.1f} minutes, on the {'processor' if arguments.cpu else 'GPU'}:")
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed) or not passed)


def fetch() -> None:
    """Brings the wheels of `NEEDED`, by version and hash of the lock, for every Python that the kit runs on."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        names = Path(scratch) / "names.txt"
        names.write_text(pins(LOCK.read_text(encoding="utf-8"), NEEDED))
        for version in PYTHONS:
            platforms = [f"--platform=manylinux_2_{libc}_x86_64" for libc in (17, 27, 28, 34)]
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command += ["--only-binary=:all:", "--require-hashes", f"--python-version={version}", *platforms]
            subprocess.run([*command, "--platform=manylinux2014_x86_64", "-r", names, "-d", WHEELS], check=True)
    size = sum(wheel.stat().st_size for wheel in WHEELS.iterdir()) / 1e6
    print(f"{len(list(WHEELS.iterdir()))} wheels, {size:.0f} MB, in {WHEELS.relative_to(ROOT)}: take them along.")


def pins(lock: str, names: Sequence[str]) -> str:
    """The entries of a lock for these packages, with their hashes.

    Raises:
        ValueError: if one has none.
    """
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    found = {entry.partition("==")[0]: entry for entry in entries if "==" in entry}
    if lacking := sorted(set(names) - set(found)):
        raise ValueError(f"the lock names no {', '.join(lacking)}: add it to tests/on_jax/pins.txt, then `make lock`")
    return "".join(found[name] for name in names)


def set_up(cpu: bool) -> dict[str, str]:
    """Installs what this Python lacks beside the checkout, not into it; the variables under which all is run."""
    for name, owner in (("jax", "JAX"), ("torch", "PyTorch"), ("numpy", "NumPy")):
        if not importlib.util.find_spec(name):
            sys.exit(f"{sys.executable} has no {owner}: run this by the Python that has JAX and PyTorch (PYTHON=…)")
    lacking = [name for name, module in NEEDED.items() if not is_there(module)]
    if lacking and not WHEELS.is_dir():
        sys.exit(
            f"Here is no {', '.join(lacking)}: run `make test-gpu OPTIONS=--fetch` first, where there is a network"
        )
    stamp = PACKAGES / f"for-python-{sys.version_info[0]}.{sys.version_info[1]}"
    if lacking and not stamp.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade"]
        subprocess.run([*command, "--find-links", WHEELS, "--target", PACKAGES, *lacking], check=True)
        stamp.touch()
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *([str(PACKAGES)] if lacking else [])]),
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu" if cpu else "cuda,cpu",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the GPU
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / "build" / "gpu" / "compiled"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def is_there(module: str) -> bool:
    """Whether this Python has the module, which is not imported for that."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def describe(environment: dict[str, str], cpu: bool) -> str:
    """The devices and the versions, or the end of the run if there is no GPU."""
    code = (
        "import sys, jax, keras, torch, mmkit.layers\n"
        "devices = jax.devices()\n"
        "print('tensorflow' in sys.modules, devices[0].platform, torch.cuda.is_available())\n"
        "print(f'{devices[0].device_kind}; Keras {keras.__version__}, JAX {jax.__version__}, PyTorch '"
        "f'{torch.__version__}, Python {sys.version.split()[0]}')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"JAX, Keras and PyTorch do not start here:\n{done.stderr[-1500:]}")
    found, about = done.stdout.strip().splitlines()[-2:]
    loaded, platform, cuda = found.split()
    if loaded == "True":
        sys.exit("mmkit.layers loads TensorFlow, which it must not need")
    if not cpu and (platform == "cpu" or cuda != "True"):
        sys.exit(f"JAX sees {about.split(';')[0]}, PyTorch {'a' if cuda == 'True' else 'no'} GPU: both must see one")
    return about


def steps(environment: dict[str, str], cpu: bool) -> tuple[int, int]:
    """The transformer's step in Keras on JAX and in PyTorch, in turn; passed if both compute the same."""
    os.environ.update(environment)  # for the processes that the harness starts
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    from benchmarks import harness
    from benchmarks import steps as part

    print("\nThe fusion transformer's step, Keras on JAX and PyTorch in turn:", flush=True)
    ways = {
        "Keras on JAX": {"framework": "keras"},
        "PyTorch": {"framework": "torch"},
        "PyTorch, tuned": {"framework": "torch", "tuned": True},
    }
    usual = {
        "model": "transformer",
        "device": "cpu" if cpu else "cuda",
        "epochs": 1,
        "examples": 512 if cpu else 16_384,
    }
    batches = BATCHES[:1] if cpu else BATCHES
    try:
        with tempfile.TemporaryDirectory() as scratch:
            os.environ.update(JAX_ENABLE_X64="1")
            apart = part.check("transformer", Path(scratch))
            del os.environ["JAX_ENABLE_X64"]
        cases = {f"{way}, {batch}": usual | ways[way] | {"batch": batch} for batch in batches for way in ways}
        samples = harness.in_turn("steps", cases, 1 if cpu else ROUNDS)
    except RuntimeError as error:
        print(error)
        return 0, 1
    for batch in batches:
        ms = {way: [sample["ms"] for sample in samples[f"{way}, {batch}"]] for way in ways}
        for way, mine in ms.items():
            ratio = harness.show(harness.ratios(mine, ms["PyTorch"]), 2)
            print(f"  {way + ', batch ' + str(batch):26} {harness.show(mine, 2)} ms a step, {ratio} of PyTorch's")
    print(f"  With equal weights at most this far apart: {apart}")
    return 1, 0


def layer_tests(environment: dict[str, str], options: list[str], seconds: float) -> tuple[int, int]:
    """Runs the layers' tests, shared out to several processes, and counts; what is not done in time has failed."""
    print(f"\nThe layers' tests on JAX, within {seconds:.0f} s:", flush=True)
    count = min(8, os.cpu_count() or 1)
    command = [sys.executable, "-m", "pytest", "-v", "-o", "addopts=", "--noconftest", "-p", "no:cacheprovider"]
    command += ["-p", "xdist", "-n", str(count), "--dist=load", "-W", "ignore", "--tb=short", *TESTS, *options]
    exact = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}  # a GPU multiplies more roughly unless it is asked not to
    tests = subprocess.Popen(
        command, env=environment | exact, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    late = threading.Timer(max(seconds, 1), tests.terminate)
    late.start()
    passed = failed = 0
    for line in tests.stdout:
        result = re.match(r"\[gw\d+\] .*(PASSED|FAILED|ERROR) ", line)
        passed += bool(result) and result[1] == "PASSED"
        failed += bool(result) and result[1] != "PASSED"
        if not re.match(r"\[gw\d+\] .*(PASSED|SKIPPED)|tests/.*::", line):
            print(" ", line, end="", flush=True)
    in_time = late.is_alive()
    late.cancel()
    if tests.wait() not in (0, 1) or not in_time or (tests.returncode and not failed):
        print(f"  The tests {'broke off' if in_time else 'were not done in time'}: that counts as failed.")
        failed += 1
    return passed, failed


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the command has said what was wrong
