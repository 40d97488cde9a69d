"""mmkit: the small package under a course on multimodal deep learning in Keras.

Import what a lesson needs from its module: `mmkit.layers`, `mmkit.datasets`, `mmkit.files`, `mmkit.pipelines`,
`mmkit.evaluate`, `mmkit.training`, `mmkit.lesson`. Importing `mmkit` alone is quick: it loads neither TensorFlow nor
Keras.
"""

import os

# TensorFlow's C++ code reads this when it is loaded: from then on it reports errors alone, not every file it opens.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from mmkit.ground.quiet import quiet_imports  # noqa: E402
from mmkit.ground.settings import by_profile, cache_dir, data_profile, profile, seed  # noqa: E402

__version__ = "0.1.0"
__all__ = ["by_profile", "cache_dir", "data_profile", "profile", "quiet_imports", "seed"]
