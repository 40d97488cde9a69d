"""mmkit: the small package under a course on multimodal deep learning in Keras.

Import what a lesson needs from its module: `mmkit.layers`, `mmkit.datasets`, `mmkit.pipelines`, `mmkit.evaluate`,
`mmkit.plots`, `mmkit.exercises`. Importing `mmkit` alone is quick: it loads neither TensorFlow nor Keras.
"""

from mmkit.quiet import quiet_imports
from mmkit.settings import by_profile, cache_dir, profile, seed

__version__ = "0.1.0"
__all__ = ["by_profile", "cache_dir", "profile", "quiet_imports", "seed"]
