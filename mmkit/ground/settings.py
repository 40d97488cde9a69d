"""The few switches of the kit. Each is an environment variable, read when it is asked for.

| variable        | default                                    | what it does                                     |
|-----------------|--------------------------------------------|--------------------------------------------------|
| `MMKIT_SEED`    | `0`                                        | the seed of every lesson                         |
| `MMKIT_PROFILE` | `small`                                    | `long`: the same data, four times the training   |
|                 |                                            | `full`: the full data sets and longer training   |
| `MMKIT_CACHE`   | `data/cache` of a checkout, else           | where downloads and prepared data sets are kept  |
|                 | `~/.cache/mmkit`                           |                                                  |
| `MMKIT_OFFLINE` | not set                                    | `1`: never try the network                       |
| `MMKIT_STATIC`  | not set                                    | `1`: figures without controls, as pages have them |
"""

import os
from pathlib import Path
from typing import TypeVar

PROFILES = ("small", "long", "full")
Choice = TypeVar("Choice")


class SettingError(ValueError):
    """An environment variable of the kit holds what it must not. The message is one line that says what it may hold."""


def seed() -> int:
    """The seed of this run, a whole number from 0 to 2**32 - 1, from `MMKIT_SEED` (default 0).

    Raises:
        SettingError: if `MMKIT_SEED` is not such a number.

    Example:
        >>> import mmkit
        >>> 0 <= mmkit.seed() < 2**32
        True
    """
    text = os.environ.get("MMKIT_SEED", "0")
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise SettingError(f"MMKIT_SEED is {text!r}: set it to a whole number from 0 to 4294967295, or unset it")
    return int(text)


def profile() -> str:
    """The profile of this run, "small", "long" or "full", from `MMKIT_PROFILE` (default "small"): how much is trained.

    On what, `data_profile` says.

    Raises:
        SettingError: if `MMKIT_PROFILE` names no profile.

    Example:
        >>> import mmkit
        >>> mmkit.profile() in ("small", "long", "full")
        True
    """
    name = os.environ.get("MMKIT_PROFILE", "small")
    if name not in PROFILES:
        raise SettingError(f"MMKIT_PROFILE is {name!r}: set it to one of {', '.join(PROFILES)}, or unset it")
    return name


def data_profile() -> str:
    """The configuration of the data sets to load, "small" or "full": `tfds.load(f"av_digits/{mmkit.data_profile()}")`.

    The profile "long" trains longer on the data of "small".

    Raises:
        SettingError: if `MMKIT_PROFILE` names no profile.

    Example:
        >>> import mmkit
        >>> mmkit.data_profile() in ("small", "full")
        True
    """
    return "full" if profile() == "full" else "small"


def by_profile(*, small: Choice, long: Choice, full: Choice) -> Choice:
    """The value for the profile of this run: `EPOCHS = mmkit.by_profile(small=8, long=32, full=40)`.

    Example:
        >>> import mmkit
        >>> mmkit.by_profile(small=8, long=32, full=40) in (8, 32, 40)
        True
    """
    return {"small": small, "long": long, "full": full}[profile()]


def checkout() -> Path | None:
    """The folder of the kit's repository if mmkit runs from a checkout, else None."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "data" / "sources.toml").is_file() else None


def cache_dir() -> Path:
    """The folder that holds downloads and prepared data sets; it need not exist yet.

    Example:
        >>> import mmkit
        >>> mmkit.cache_dir().is_absolute()
        True
    """
    if os.environ.get("MMKIT_CACHE"):
        return Path(os.environ["MMKIT_CACHE"]).expanduser().resolve()
    folder = checkout()
    return folder / "data" / "cache" if folder else Path.home() / ".cache" / "mmkit"


def offline() -> bool:
    """Whether `MMKIT_OFFLINE` forbids the network.

    Raises:
        SettingError: if `MMKIT_OFFLINE` is neither 0 nor 1.
    """
    return _switch("MMKIT_OFFLINE")


def static() -> bool:
    """Whether `MMKIT_STATIC` wants figures without controls.

    Raises:
        SettingError: if `MMKIT_STATIC` is neither 0 nor 1.
    """
    return _switch("MMKIT_STATIC")


def _switch(name: str) -> bool:
    text = os.environ.get(name, "") or "0"
    if text not in ("0", "1"):
        raise SettingError(f"{name} is {text!r}: set it to 1 or 0, or unset it")
    return text == "1"
