"""What the kit's TFDS builders share: where they keep their data, and preparing it safely."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from mmkit.ground import settings, sources


class KitBuilder(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder that keeps its data in the kit's cache and is built whole or not at all.

    Without a `data_dir` it uses `TFDS_DATA_DIR` if that is set, else the folder `tfds` in `mmkit.cache_dir()`.
    Processes that prepare the same data set at once wait for one another; what a killed one left is removed.

    Attributes:
        SOURCES: from a configuration's name to the sources (`mmkit.ground.sources`) that it is built from.
    """

    SOURCES: dict[str, tuple[str, ...]] = {}
    _checksums_path = None  # TFDS would look for a file of checksums: here mmkit.ground.sources keeps them

    def __init__(self, *, data_dir: str | os.PathLike | None = None, **kwargs) -> None:
        folder = data_dir or os.environ.get("TFDS_DATA_DIR") or settings.cache_dir() / "tfds"
        super().__init__(data_dir=os.fspath(folder), **kwargs)

    def download_and_prepare(self, **kwargs) -> None:
        """Builds the data set unless it is there, or is there with files cut short. Arguments as in TFDS.

        Raises:
            mmkit.ground.sources.SourceError: if its sources cannot be had or its folder cannot be written.
        """
        if self.is_prepared():
            return super().download_and_prepare(**kwargs)
        for name in self.SOURCES.get(self.builder_config.name, ()):
            sources.fetch(name)
        final, name = Path(self.data_dir), f"{self.name}/{self.builder_config.name}"
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            lock = Path(self._data_dir_root) / f".{name.replace('/', '-')}-{self.version}.lock"
            with sources.one_at_a_time(lock, f"data set {name}"):
                if final.exists():
                    self.info.read_from_directory(self.data_dir)
                    if self.is_prepared():  # another process has built it while this one waited
                        return None
                    shutil.rmtree(final)
                for leftover in final.parent.glob(f"incomplete.*_{final.name}"):
                    shutil.rmtree(leftover)
                return super().download_and_prepare(**kwargs)
        except Exception as error:
            if (cause := _disk_error(error)) is None:
                raise
            raise sources.SourceError(sources.explain(cause, f"data set {name}", Path(self._data_dir_root))) from error

    def is_prepared(self) -> bool:
        """Whether the data set is there and whole: its files as long as when they were written."""
        splits = self.info.splits.values()
        if not splits or not self.data_path.exists():
            return False
        if self.info.file_format != tfds.core.FileFormat.TFRECORD:
            return True
        try:
            sizes = [sum(Path(path).stat().st_size for path in split.filepaths) for split in splits]
        except FileNotFoundError:
            return False
        framing = 16  # bytes that a TFRecord file adds to each example
        return sizes == [split.num_bytes + framing * split.num_examples for split in splits]

    def _public(self, name: str, split: str) -> Iterator[dict[str, np.ndarray]]:
        """The examples of one of TFDS's own data sets, for a full configuration.

        Raises:
            mmkit.ground.sources.SourceError: if it is not there and cannot be downloaded.
        """
        if settings.offline() and not tfds.builder(name, data_dir=self._data_dir_root).data_path.exists():
            raise sources.SourceError(f"{name} is not in {self._data_dir_root} and MMKIT_OFFLINE is set: unset it")
        try:
            return iter(tfds.as_numpy(tfds.load(name, split=split, data_dir=self._data_dir_root, shuffle_files=False)))
        except Exception as error:  # TFDS raises whatever its downloader met
            raise sources.SourceError(
                f"TFDS could not bring {name} ({type(error).__name__}): "
                "connect this machine to the network and try again, or unset MMKIT_PROFILE to use the small data"
            ) from error


def _disk_error(error: Exception) -> OSError | None:
    """The fault of the disk behind `error`: TFDS and TensorFlow tell it in errors of their own. None: another fault."""
    if isinstance(error, OSError):
        return error
    faults = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
    return next((OSError(fault, os.strerror(fault)) for fault in faults if os.strerror(fault) in str(error)), None)
