"""What the kit's TFDS builders share: where they keep their data, and preparing it safely."""

import os
import shutil
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from filelock import FileLock

from mmkit import settings, sources


class KitBuilder(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder that keeps its data in the kit's cache and is built whole or not at all.

    Without a `data_dir` it uses `TFDS_DATA_DIR` if that is set, else the folder `tfds` in `mmkit.cache_dir()`. Processes
    that prepare the same data set at once wait for one another; what a killed one left is removed.

    Attributes:
        SOURCES: from a configuration's name to the sources (`mmkit.sources`) that it is built from.
    """

    SOURCES: dict[str, tuple[str, ...]] = {}
    _checksums_path = None  # TFDS would look for a file of checksums: here mmkit.sources keeps them

    def __init__(self, *, data_dir: str | os.PathLike | None = None, **kwargs) -> None:
        super().__init__(
            data_dir=os.fspath(data_dir or os.environ.get("TFDS_DATA_DIR") or settings.cache_dir() / "tfds"), **kwargs
        )

    def download_and_prepare(self, **kwargs) -> None:
        """Builds the data set unless it is there. Arguments as in TFDS.

        Raises:
            mmkit.sources.SourceError: if its sources cannot be had or its folder cannot be written.
        """
        if self.data_path.exists():
            return super().download_and_prepare(**kwargs)
        for name in self.SOURCES.get(self.builder_config.name, ()):
            sources.fetch(name)
        final = self.data_path
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            lock = f".{self.name}-{self.builder_config.name}-{self.version}.lock"
            with FileLock(os.path.join(self._data_dir_root, lock)):
                if final.exists():  # another process has built it while this one waited
                    self.info.read_from_directory(self.data_dir)
                    return None
                for leftover in final.parent.glob(f"incomplete.*_{final.name}"):
                    shutil.rmtree(os.fspath(leftover))
                return super().download_and_prepare(**kwargs)
        except OSError as error:
            raise sources.SourceError(sources.explain(error, f"data set {self.name}/{self.builder_config.name}")) from error

    def _public(self, name: str, split: str) -> Iterator[dict[str, np.ndarray]]:
        """The examples of one of TFDS's own data sets, for a full configuration.

        Raises:
            mmkit.sources.SourceError: if it is not there and cannot be downloaded.
        """
        if settings.offline() and not tfds.builder(name, data_dir=self._data_dir_root).data_path.exists():
            raise sources.SourceError(f"{name} is not in {self._data_dir_root} and MMKIT_OFFLINE is set: unset it")
        try:
            return iter(tfds.as_numpy(tfds.load(name, split=split, data_dir=self._data_dir_root, shuffle_files=False)))
        except Exception as error:  # TFDS raises whatever its downloader met
            raise sources.SourceError(
                f"TFDS could not bring {name} ({type(error).__name__}): connect this machine to the network and try again, "
                "or unset MMKIT_PROFILE to use the small data"
            ) from error
