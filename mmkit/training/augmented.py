"""Augmentation inside a model, so that it runs on the accelerator."""

from collections.abc import Mapping

import keras


def augmented(model: keras.Model, augmentation: Mapping[str, keras.layers.Layer]) -> keras.Model:
    """`model` behind augmentation layers, which run where the training step runs: on the accelerator if there is one.

    Train what this returns, then use `model` itself: they share their weights, and Keras's random layers change
    nothing outside training. A `tf.data` pipeline, and with it `batches(augment=...)`, always computes on the host.
    Keras does not save how far its random layers are: a training that goes on from a saved model augments by other
    chance. Where that matters, augment in `batches`, by the `seed` it gives.

    Args:
        model: a model on a dict of named inputs.
        augmentation: from an input's name to a layer that keeps its shape.

    Returns:
        The model to train.

    Raises:
        ValueError: if `model` has no input of such a name.

    Example:
        >>> import keras
        >>> from mmkit.training import augmented
        >>> image = keras.Input((8, 8, 1), name="image")
        >>> model = keras.Model({"image": image}, keras.layers.Flatten()(image))
        >>> train_me = augmented(model, {"image": keras.layers.RandomTranslation(0.1, 0.1, seed=0)})
        >>> train_me.output_shape
        (None, 64)
    """
    inputs = model.input if isinstance(model.input, dict) else {}
    for name in augmentation:
        if name not in inputs:
            raise ValueError(f"there is no input {name!r} to augment: the model has {', '.join(inputs) or 'no names'}")
    fresh = {name: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=name) for name, x in inputs.items()}
    changed = {name: augmentation[name](x) if name in augmentation else x for name, x in fresh.items()}
    return keras.Model(fresh, model(changed))
