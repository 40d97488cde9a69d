"""Set-up refuses in one line what it cannot work with, and takes no harm from being killed or started twice."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OLD_PYTHONS = sorted(
    path
    for pattern in ("3.[6-9].*", "3.10.*")
    for path in (Path.home() / ".pyenv" / "versions").glob(pattern + "/bin/python")
)


@pytest.fixture
def repository(tmp_path):
    """A folder with what set-up reads, where Colab's lock asks for nothing, so that its environment is quickly made."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "tools/bootstrap.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tests" / "colab").mkdir(parents=True)
    (tmp_path / "tests" / "colab" / "requirements.lock").write_text("")
    (tmp_path / "notebooks" / "1_foundations").mkdir(parents=True)
    for name in ("0_start_here.ipynb", "1_foundations/1.02_convolutional_networks.ipynb"):
        (tmp_path / "notebooks" / name).touch()
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who has not called make, with no package index within reach."""
    ours = {"PYTHON", "PYTHONPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    return {name: value for name, value in os.environ.items() if name not in ours} | offline | more


def run(*words: object, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, env=environment(**more))


def refused(done: subprocess.CompletedProcess) -> str:
    """The one line in which a command refused."""
    assert done.returncode
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("make:", "Making"))]
    assert len(lines) == 1, lines
    return lines[0]


def bootstrap(repository: Path, *arguments: str, pretend: str = "") -> list[str]:
    """The command that runs bootstrap.py after the statement `pretend`."""
    path = str(repository / "tools" / "bootstrap.py")
    code = (
        f"import runpy, sys; sys.argv = {[path, *arguments]}; {pretend}\nrunpy.run_path({path!r}, run_name='__main__')"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(("version", "fault"), [((3, 8, 18), "Python 3.8 is too old"), ((3, 14, 0), "3.14 is too new")])
def test_another_python(repository, version, fault):
    line = refused(run(*bootstrap(repository, pretend=f"sys.version_info = {version}"), PATH=""))
    assert fault in line and line.endswith("install Python 3.11, 3.12 or 3.13.")


@pytest.mark.parametrize("python", OLD_PYTHONS, ids=lambda path: path.parts[-3])
def test_a_real_old_python(repository, python):
    assert "too old" in refused(run(python, repository / "tools" / "bootstrap.py", PATH=""))


def test_the_right_python_beside_the_wrong_one_is_named(repository, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3.12").symlink_to(sys.executable)
    command = bootstrap(repository, pretend="sys.version_info = (3, 9, 0)")
    assert "PYTHON=python3.12" in refused(run(*command, PATH=str(tmp_path / "bin")))


def test_no_venv_module(repository):
    line = refused(run(*bootstrap(repository, pretend="sys.modules['ensurepip'] = None")))
    assert "no venv module" in line and "apt install python3" in line


def test_little_disk(repository):
    pretend = "import shutil; shutil.disk_usage = lambda path: shutil._ntuple_diskusage(9e9, 8e9, 1e9)"
    assert "1.0 GB free" in refused(run(*bootstrap(repository, "colab", pretend=pretend)))
    assert not (repository / ".venv-colab").exists()


def test_a_folder_that_cannot_be_written(repository):
    (repository / ".venv-colab.lock").mkdir()  # holds for root too, unlike a file mode
    assert "make the folder writable" in refused(run(*bootstrap(repository, "colab")))


def test_an_environment_of_someone_elses_is_left_alone(repository):
    (repository / ".venv-colab").mkdir()
    (repository / ".venv-colab" / "precious").touch()
    assert "move it away" in refused(run(*bootstrap(repository, "colab")))
    assert (repository / ".venv-colab" / "precious").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
class TestMake:
    def test_help_is_the_default_and_names_every_target(self):
        done = run("make", "-C", ROOT, "--no-print-directory")
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
        listed = [line.split()[1] for line in done.stdout.splitlines()]
        assert done.returncode == 0 and set(listed) == set(targets) - {"notebook", "part"}

    def test_in_the_wrong_folder(self, repository):
        done = subprocess.run(
            ["make", "-f", repository / "Makefile", "lab"], cwd=repository / "notebooks", capture_output=True, text=True
        )
        assert done.returncode and "Run make in the kit's folder" in done.stderr

    @pytest.mark.parametrize("number", ["99", "1.3", "2", "", "../x", "0 1.2"])
    def test_an_unknown_notebook_is_refused_before_any_set_up(self, repository, number):
        line = refused(run("make", "--no-print-directory", "-C", repository, "run", f"NB={number}"))
        assert line.endswith(f"no lesson NB={number}: choose one of 0 1.2")
        assert not (repository / ".venv").exists()
        assert run("make", "-C", repository, "notebook", "NB=1.2").returncode == 0

    def test_no_python(self, repository):
        line = refused(run("make", "--no-print-directory", "-C", repository, "setup", "PYTHON=no-such-python"))
        assert "no working no-such-python: install Python 3.11, 3.12 or 3.13" in line


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
class TestCI:
    """What .ci/run calls, with a `make` that only notes it."""

    @pytest.fixture
    def called(self, tmp_path):
        def run_ci(minutes: int, colab: bool = True, fails: str = "nothing") -> tuple[list[str], str, int]:
            (tmp_path / ".ci").mkdir(exist_ok=True)
            shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
            scripts = {
                "bin/make": f'echo "$*" >> {tmp_path}/notes; [ "$1" != {fails} ]',
                ".venv/bin/python": f"exit {0 if colab else 1}",
            }
            for name, text in scripts.items():
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
                (tmp_path / name).chmod(0o755)
            path = f"{tmp_path}/bin:{os.environ['PATH']}"
            done = run("bash", tmp_path / ".ci" / "run", PATH=path, MMKIT_CI_MINUTES=str(minutes))
            notes = (tmp_path / "notes").read_text().splitlines()
            (tmp_path / "notes").unlink()
            return notes, done.stdout, done.returncode

        return run_ci

    def test_the_minutes_are_shared_out(self, called):
        assert called(60) == (["test BUDGET=30", "test-course BUDGET=55", "test-colab"], "", 0)

    def test_no_python_for_colab(self, called):
        notes, said, code = called(60, colab=False)
        assert notes == ["test BUDGET=30", "test-course BUDGET=60"] and code == 0
        assert "left out the tests with Colab's versions" in said

    def test_no_time_for_colab(self, called):
        notes, said, code = called(3)
        assert notes == ["test BUDGET=1", "test-course BUDGET=0"] and code == 0
        assert "No time is left for the tests with Colab's versions" in said

    def test_a_failure_ends_it(self, called):
        assert called(60, fails="test")[::2] == (["test BUDGET=30"], 1)
        assert called(60, fails="test-colab")[2] == 1


@pytest.mark.slow
class TestEnvironment:
    """These make environments, with no network: Colab's lock is replaced by one that asks for little."""

    def test_made_once_and_then_left(self, repository):
        command = bootstrap(repository, "colab")
        assert run(*command).returncode == 0
        before = (repository / ".venv-colab" / "pyvenv.cfg").stat()
        again = run(*command)
        assert (again.returncode, again.stdout) == (0, "")
        assert (repository / ".venv-colab" / "pyvenv.cfg").stat() == before

    def test_made_afresh_when_the_lock_changes(self, repository):
        command = bootstrap(repository, "colab")
        assert run(*command).returncode == 0
        (repository / "tests" / "colab" / "requirements.lock").write_text("# changed\n")
        again = run(*command)
        assert again.returncode == 0 and "out of date" in again.stdout

    def test_two_at_once(self, repository):
        command = bootstrap(repository, "colab")
        both = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.communicate()[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert sum("Making" in text for text in said) == 1

    def test_killed_half_way(self, repository):
        command = bootstrap(repository, "colab")
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
        while not (repository / ".venv-colab" / "lib").exists():
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        again = run(*command)
        assert again.returncode == 0 and "unfinished" in again.stdout

    @pytest.fixture
    def wheel(self, tmp_path):
        """A wheel of a package that does nothing, in a folder that pip can be pointed to."""
        path = tmp_path / "wheels" / "nothing-1.0-py3-none-any.whl"
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("nothing.py", "")
            archive.writestr("nothing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
            archive.writestr(
                "nothing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr("nothing-1.0.dist-info/RECORD", "")
        return path

    def ask_for(self, repository, digest):
        lock = repository / "tests" / "colab" / "requirements.lock"
        lock.write_text(f"nothing==1.0 --hash=sha256:{digest}\n")

    def test_the_locked_file_is_installed(self, repository, wheel):
        self.ask_for(repository, hashlib.sha256(wheel.read_bytes()).hexdigest())
        assert run(*bootstrap(repository, "colab"), PIP_FIND_LINKS=str(wheel.parent)).returncode == 0
        assert run(repository / ".venv-colab" / "bin" / "python", "-c", "import nothing").returncode == 0

    def test_another_file_is_refused(self, repository, wheel):
        self.ask_for(repository, "0" * 64)
        done = run(*bootstrap(repository, "colab"), PIP_FIND_LINKS=str(wheel.parent))
        assert "not the file that the lock names" in refused(done)

    def test_a_package_that_is_not_to_be_had(self, repository):
        self.ask_for(repository, "0" * 64)
        assert "pip finds no such package" in refused(run(*bootstrap(repository, "colab")))

    def test_no_network(self, repository):
        self.ask_for(repository, "0" * 64)
        nowhere = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
        assert "cannot reach its package index" in refused(run(*bootstrap(repository, "colab"), **nowhere))
