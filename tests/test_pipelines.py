"""Pipelines: each example once an epoch, in an order that the seed decides, and the same on any number of devices."""

import faults
import numpy as np
import pytest

import mmkit

with mmkit.quiet_imports():
    import tensorflow as tf

    from mmkit import pipelines

COUNT = 23


@pytest.fixture
def numbers() -> tf.data.Dataset:
    return tf.data.Dataset.range(COUNT)


def drawn(batches: tf.data.Dataset) -> list[int]:
    """One epoch, example by example."""
    return [int(number) for batch in batches for number in batch]


def counted(calls: list):
    """A function for `prepare` or `augment` that changes nothing and notes the size of each batch in `calls`."""

    def note(batch):
        calls.append(len(batch))
        return batch

    def through(batch):
        result = tf.numpy_function(note, [batch], tf.int64)
        result.set_shape(batch.shape)
        return result

    return through


@pytest.mark.parametrize("cache", [True, False])
def test_shuffled_by_the_seed_anew_each_epoch(numbers, cache):
    def epochs(seed):
        batches = pipelines.batches(numbers, 4, shuffle=True, seed=seed, cache=cache)
        return [drawn(batches) for _ in range(3)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    assert first != other
    assert first[0] != first[1] != first[2]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in first + other)


def test_in_order_unless_shuffled(numbers):
    batches = pipelines.batches(numbers, 4)
    assert drawn(batches) == drawn(batches) == list(range(COUNT))


def test_the_last_batch_holds_the_rest(numbers):
    sizes = [len(batch) for batch in pipelines.batches(numbers, 5)]
    assert sizes == [5, 5, 5, 5, 3]
    assert [len(batch) for batch in pipelines.batches(numbers, 100)] == [COUNT]


@pytest.mark.parametrize("options", [{}, {"prepare": lambda batch: batch}, {"shuffle": True}, {"cache": False}])
def test_the_number_of_batches_is_known(numbers, options):
    assert int(pipelines.batches(numbers, 5, **options).cardinality()) == 5


def test_a_data_set_of_unknown_size(numbers):
    unknown = numbers.filter(lambda number: number % 2 == 0)
    batches = pipelines.batches(unknown, 5, prepare=lambda batch: batch + 1, shuffle=True)
    assert sorted(drawn(batches)) == list(range(1, COUNT + 1, 2))


@pytest.mark.parametrize("cache, times", [(True, 1), (False, 3)])
def test_prepared_once_and_augmented_each_epoch(numbers, cache, times, monkeypatch):
    monkeypatch.setattr(pipelines, "_CHUNK", 10)
    prepared, augmented = [], []
    batches = pipelines.batches(
        numbers, 4, prepare=counted(prepared), augment=counted(augmented), cache=cache, shuffle=True
    )
    for _ in range(3):
        assert sorted(drawn(batches)) == list(range(COUNT))
    assert sorted(prepared) == sorted(times * [10, 10, 3])
    assert sorted(augmented) == sorted(3 * [4, 4, 4, 4, 4, 3])


def test_prepare_sees_batches_and_gives_single_examples(numbers):
    batches = pipelines.batches(
        numbers, 4, prepare=lambda batch: ({"x": tf.one_hot(batch, COUNT)}, batch), augment=lambda x, y: (x, y + 100)
    )
    inputs, labels = next(iter(batches))
    assert inputs["x"].shape == (4, COUNT) and labels.numpy().tolist() == [100, 101, 102, 103]


@pytest.mark.parametrize("size", [0, -3])
def test_batch_size_must_be_positive(numbers, size):
    with pytest.raises(ValueError, match=f"positive: got {size}"):
        pipelines.batches(numbers, size)


def test_empty_split(numbers):
    with pytest.raises(ValueError, match="empty: check the name of the split"):
        pipelines.batches(numbers.take(0), 4)


@pytest.mark.parametrize("device, expected", [(None, "/GPU:0"), ("/gpu:1", "/gpu:1"), ("/CPU:0", None)])
def test_batches_wait_on_the_gpu_if_there_is_one(numbers, monkeypatch, device, expected):
    asked = []
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(tf.data.experimental, "prefetch_to_device", lambda name: asked.append(name) or (lambda x: x))
    assert drawn(pipelines.batches(numbers, 4, device=device)) == list(range(COUNT))
    assert asked == ([expected] if expected else [])


# --- DigitSenses --------------------------------------------------------------------------------------------------


def some_digits(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8),
        "audio": random.integers(-9_000, 9_000, (count, 6_400), dtype=np.int16),
        "touch": random.integers(0, 256, (count, 48, 16), dtype=np.uint8),
        "label": np.arange(count),
    }


def test_digit_senses():
    digits = some_digits(3)
    inputs, labels = pipelines.DigitSenses()(digits)
    inputs = {name: np.asarray(values) for name, values in inputs.items()}
    assert {name: values.shape for name, values in inputs.items()} == {
        "image": (3, 28, 28, 1),
        "audio": (3, 65, 32, 1),
        "touch": (3, 48, 16),
    }
    assert all(values.dtype == np.float32 for values in inputs.values())
    assert np.asarray(labels).tolist() == [0, 1, 2]
    for name in ("image", "touch"):
        np.testing.assert_allclose(inputs[name], digits[name] / 255, rtol=1e-6)
    for clip in inputs["audio"]:
        assert clip.mean() == pytest.approx(0, abs=1e-4) and clip.std() == pytest.approx(1, abs=1e-3)


def test_each_clip_is_standardised_by_itself():
    digits = some_digits(4)
    together = np.asarray(pipelines.DigitSenses()(digits)[0]["audio"])
    for i in range(4):
        alone = pipelines.DigitSenses()({name: values[i : i + 1] for name, values in digits.items()})[0]["audio"]
        np.testing.assert_allclose(together[i], np.asarray(alone)[0], rtol=1e-3, atol=1e-3)
        decibels = np.asarray(pipelines.mel_spectrogram()(digits["audio"][i : i + 1] / np.float32(32_768)))[0].T
        expected = (decibels - decibels.mean()) / decibels.std()
        np.testing.assert_allclose(together[i, :, :, 0], expected, rtol=1e-3, atol=1e-3)


def test_silence_is_finite():
    digits = some_digits(2)
    digits["audio"][0] = 0
    assert np.isfinite(np.asarray(pipelines.DigitSenses()(digits)[0]["audio"])).all()


@pytest.mark.parametrize("hertz", [200, 500, 1_000, 2_000, 3_500])
def test_a_tone_is_loudest_in_its_mel_band(hertz):
    def mel(frequency):
        return 2_595 * np.log10(1 + frequency / 700)

    tone = np.sin(2 * np.pi * hertz * np.arange(6_400) / 8_000).astype(np.float32)
    loudness = np.asarray(pipelines.mel_spectrogram()(tone[None]))[0].mean(axis=1)
    centres = np.linspace(mel(60), mel(4_000), pipelines.MEL_BINS + 2)[1:-1]
    assert abs(int(loudness.argmax()) - int(np.abs(centres - mel(hertz)).argmin())) <= 1


TWO_DEVICES = """
import sys
import mmkit
with mmkit.quiet_imports():
    import keras
    import numpy as np
    import tensorflow as tf
    from mmkit import layers, pipelines
devices = int(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
random = np.random.default_rng(0)
rows = {"image": random.random((40, 8), "float32"), "touch": random.random((40, 6), "float32")}
data = tf.data.Dataset.from_tensor_slices((rows, random.integers(0, 3, 40)))
batches = pipelines.batches(data, 8, shuffle=True, seed=3, device="/CPU:0")
keras.utils.set_random_seed(0)
with tf.distribute.MirroredStrategy([f"/CPU:{i}" for i in range(devices)]).scope():
    inputs = {name: keras.Input(values.shape[1:], name=name) for name, values in rows.items()}
    outputs = keras.layers.Dense(3)(layers.ConcatFusion(4)(inputs))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
steps = []
count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
history = model.fit(batches, epochs=2, verbose=0, callbacks=[count])
print(len(steps), *history.history["loss"], *model.get_weights()[0].ravel()[:5])
"""


@pytest.mark.slow
def test_the_same_training_on_one_device_and_on_two(tmp_path):
    results = []
    for devices in (1, 2):
        child = faults.run("-c", TWO_DEVICES, devices, env=faults.environment(tmp_path))
        assert child.returncode == 0, child.stderr
        results.append([float(word) for word in child.stdout.split()])
    assert results[0][0] == results[1][0] == 10  # steps: two epochs of five batches
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-6)
