"""Pipelines: each example once an epoch, in an order that the seed decides, and the same on any number of devices."""

import subprocess

import faults
import numpy as np
import pytest

import mmkit

with mmkit.quiet_imports():
    import keras
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from mmkit import pipelines
    from mmkit.datasets.av_digits import MEL_BINS, DigitSenses, mel_spectrogram
    from mmkit.training import augmented

COUNT = 23


@pytest.fixture
def numbers() -> tf.data.Dataset:
    return tf.data.Dataset.range(COUNT)


def drawn(batches: tf.data.Dataset) -> list[int]:
    """One epoch, example by example."""
    return [int(number) for batch in batches for number in batch]


def counted(calls: list):
    """A function for `transform` or `augment` that changes nothing and notes the size of each batch in `calls`."""

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


@pytest.mark.parametrize("options", [{}, {"transform": lambda batch: batch}, {"shuffle": True}, {"cache": False}])
def test_the_number_of_batches_is_known(numbers, options):
    assert int(pipelines.batches(numbers, 5, **options).cardinality()) == 5


def test_a_data_set_of_unknown_size(numbers):
    unknown = numbers.filter(lambda number: number % 2 == 0)
    batches = pipelines.batches(unknown, 5, transform=lambda batch: batch + 1, shuffle=True)
    assert sorted(drawn(batches)) == list(range(1, COUNT + 1, 2))


@pytest.mark.parametrize("cache, times", [(True, 1), (False, 3)])
def test_prepared_once_and_augmented_each_epoch(numbers, cache, times, monkeypatch):
    monkeypatch.setattr(pipelines, "_CHUNK", 10)
    prepared, augmented = [], []
    batches = pipelines.batches(
        numbers, 4, transform=counted(prepared), augment=counted(augmented), cache=cache, shuffle=True
    )
    for _ in range(3):
        assert sorted(drawn(batches)) == list(range(COUNT))
    assert sorted(prepared) == sorted(times * [10, 10, 3])
    assert sorted(augmented) == sorted(3 * [4, 4, 4, 4, 4, 3])


def test_transform_sees_batches_and_gives_single_examples(numbers):
    batches = pipelines.batches(
        numbers, 4, transform=lambda batch: ({"x": tf.one_hot(batch, COUNT)}, batch), augment=lambda x, y: (x, y + 100)
    )
    inputs, labels = next(iter(batches))
    assert inputs["x"].shape == (4, COUNT) and labels.numpy().tolist() == [100, 101, 102, 103]


@pytest.mark.parametrize("size", [0, -3])
def test_batch_size_must_be_positive(numbers, size):
    with pytest.raises(ValueError, match=f"must be positive: got {size} and"):
        pipelines.batches(numbers, size)
    with pytest.raises(ValueError, match=f"must be positive: got 4 and {size}"):
        pipelines.batches(numbers, 4, shuffle_bytes=size)


@pytest.mark.parametrize("nothing", [lambda data: data.take(0), lambda data: data.filter(lambda number: number < 0)])
def test_empty_split(numbers, nothing):
    with pytest.raises(ValueError, match="empty: check the name of the split"):
        pipelines.batches(nothing(numbers), 4)


def test_a_wrong_split_is_an_error_that_names_the_right_ones(tmp_path):
    class Three(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"number": np.int64}))

        def _split_generators(self, dl_manager):
            return {split: ((i, {"number": i}) for i in range(3)) for split in ("train", "test")}

        def _generate_examples(self):
            raise NotImplementedError

    builder = Three(data_dir=tmp_path)
    builder.download_and_prepare()
    batches = pipelines.batches(builder.as_dataset(split="test"), 2, shuffle=True)
    assert sorted(int(number) for batch in batches for number in batch["number"]) == [0, 1, 2]
    with pytest.raises(ValueError, match="^Unknown split 'trian'. Should be one of .*'train'"):
        pipelines.batches(builder.as_dataset(split="trian"), 2)


def test_endless_data(numbers):
    with pytest.raises(ValueError, match="never ends"):
        pipelines.batches(numbers.repeat(), 4)


@pytest.mark.parametrize("device, expected", [(None, "/GPU:0"), ("/gpu:1", "/gpu:1"), ("/CPU:0", None)])
def test_batches_wait_on_the_gpu_if_there_is_one(numbers, monkeypatch, device, expected):
    asked = []
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(tf.data.experimental, "prefetch_to_device", lambda name: asked.append(name) or (lambda x: x))
    assert drawn(pipelines.batches(numbers, 4, device=device)) == list(range(COUNT))
    assert asked == ([expected] if expected else [])


# --- resuming ---------------------------------------------------------------------------------------------------------


def noisy(batch, seed):
    """Augmentation whose chance is the seed that it is given."""
    return tf.cast(batch, tf.float32) + tf.random.stateless_uniform(tf.shape(batch), seed)


@pytest.mark.parametrize("start", [0, 1, 5, 6, 7, 14])
@pytest.mark.parametrize("cache", [True, False])
def test_resumed_with_the_very_next_batch(numbers, start, cache):
    options = {"shuffle": True, "seed": 3, "cache": cache, "augment": noisy}
    whole = pipelines.batches(numbers, 4, **options)
    uninterrupted = [batch.numpy() for _ in range(4) for batch in whole]
    tf.random.uniform(())  # what else was drawn meanwhile must not matter
    resumed = pipelines.batches(numbers, 4, **options, start_step=start)
    for _ in range(2):  # a second pass begins at the same step: a peek costs nothing
        for expected, batch in zip(uninterrupted[start:], resumed, strict=False):
            np.testing.assert_array_equal(batch.numpy(), expected)


@pytest.mark.parametrize("cache", [True, False])
def test_the_order_owes_nothing_to_other_seeds(numbers, cache):
    orders = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        orders.append(drawn(pipelines.batches(numbers, 4, shuffle=True, seed=3, cache=cache)))
    assert orders[0] == orders[1]


def test_an_endless_pass_can_be_saved_with_its_iterator(numbers, tmp_path):
    batches = pipelines.batches(numbers, 4, shuffle=True, seed=3, start_step=2, augment=noisy)
    iterator = iter(batches)
    for _ in range(5):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "position"))
    expected = [next(iterator).numpy() for _ in range(7)]
    other = iter(batches)
    tf.train.Checkpoint(iterator=other).restore(path)
    np.testing.assert_array_equal(np.concatenate([next(other) for _ in range(7)]), np.concatenate(expected))


@pytest.mark.parametrize("cache", [True, False])
def test_a_pass_can_be_saved_with_its_iterator(numbers, tmp_path, cache):
    batches = pipelines.batches(numbers, 4, shuffle=True, seed=3, augment=noisy, cache=cache)
    iterator = iter(batches)
    next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "position"))
    expected = [batch.numpy() for batch in iterator]
    other = iter(batches)
    tf.train.Checkpoint(iterator=other).restore(path)
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in other]), np.concatenate(expected))


def test_a_chance_that_is_not_saved_is_not_lost_in_silence(numbers, tmp_path):
    noise = keras.layers.GaussianNoise(1.0, seed=3)
    iterator = iter(
        pipelines.batches(numbers, 4, augment=lambda batch: noise(tf.cast(batch, tf.float32), training=True))
    )
    with pytest.raises(tf.errors.FailedPreconditionError, match="stateful"):
        tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "position"))


def test_training_goes_on_as_if_nothing_had_happened(tmp_path):
    random = np.random.default_rng(0)
    rows, labels = random.random((20, 5), "float32"), random.integers(0, 3, 20)
    data = tf.data.Dataset.from_tensor_slices(({"row": rows}, labels))

    def batches(step):
        return pipelines.batches(data, 6, shuffle=True, seed=1, start_step=step)

    inputs = {"row": keras.Input((5,), name="row")}
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="zeros")(inputs["row"]))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(batches(0), steps_per_epoch=6, epochs=1, verbose=0, shuffle=False)  # an epoch and a half
    model.save(tmp_path / "half_way.keras")
    model.fit(batches(6), steps_per_epoch=6, epochs=1, verbose=0, shuffle=False)
    resumed = keras.saving.load_model(tmp_path / "half_way.keras")
    start = int(resumed.optimizer.iterations)
    assert start == 6
    resumed.fit(batches(start), steps_per_epoch=6, epochs=1, verbose=0, shuffle=False)
    straight = keras.models.clone_model(model)
    straight.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    straight.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    straight.fit(pipelines.batches(data, 6, shuffle=True, seed=1), epochs=3, verbose=0, shuffle=False)  # 4 steps each
    for one, other in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# --- cleaning, files, unequal lengths ---------------------------------------------------------------------------------


def test_where(numbers):
    batches = pipelines.batches(numbers, 4, where=lambda number: number % 2 == 1)
    assert drawn(batches) == list(range(1, COUNT, 2)) and int(batches.cardinality()) == 3


@pytest.mark.parametrize("cache", [True, False])
def test_where_that_keeps_nothing(numbers, cache):
    with pytest.raises(ValueError, match="where leaves no example"):
        pipelines.batches(numbers, 4, where=lambda number: number < 0, cache=cache)


ROWS, CLASSES, BYTES = 2_000, 10, 24 + 2 * 200  # examples, sorted by class; and what one takes in memory


def sorted_by_class() -> tf.data.Dataset:
    return tf.data.Dataset.range(ROWS).map(lambda place: (place, tf.fill([2], place * CLASSES // ROWS)))


def test_a_stream_sorted_by_class_is_truly_shuffled_in_little_memory():
    batches = pipelines.batches(sorted_by_class(), 50, shuffle=True, cache=False, shuffle_bytes=BYTES * ROWS // 5)
    epochs = [list(batches.as_numpy_iterator()) for _ in range(2)]
    for epoch in epochs:
        order = np.concatenate([places for places, _ in epoch])
        assert sorted(order) == list(range(ROWS))
        # Neither a place nor a neighbour says anything of what comes: four standard errors of a correlation of 0.
        assert abs(np.corrcoef(order, np.arange(ROWS))[0, 1]) < 4 / ROWS**0.5
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 4 / ROWS**0.5
        # The classes of a batch are drawn without replacement, so their variance is the hypergeometric one.
        counts = np.array([np.bincount(labels[:, 0], minlength=CLASSES) for _, labels in epoch])
        expected = 50 * 0.1 * 0.9 * (ROWS - 50) / (ROWS - 1)
        assert counts.var() == pytest.approx(expected, rel=0.3)
    assert np.any(epochs[0][0][0] != epochs[1][0][0])


def test_how_often_a_stream_is_read(recwarn):
    def parts(share):
        reads = []
        data = sorted_by_class().map(lambda place, label: (counted(reads)(place[None])[0], label))
        list(pipelines.batches(data, 50, shuffle=True, cache=False, shuffle_bytes=int(BYTES * ROWS * share)))
        return len(reads) / ROWS

    assert parts(2) == 1 and parts(0.3) == 4
    assert not [one for one in recwarn if "times a pass" in str(one.message)]
    parts(0.05)
    assert any("read 23 times a pass: better give `cache` a path" in str(one.message) for one in recwarn)


def test_sizes_that_the_shapes_do_not_tell_are_measured():
    data = tf.data.Dataset.from_tensor_slices({"text": ["a" * 1_000, "b" * 3_000], "number": [1.0, 2.0]})
    assert pipelines._bytes(data) == pytest.approx(2_000 + 4 + 4 + 2 * pipelines._TENSOR_BYTES)
    assert pipelines._bytes(sorted_by_class()) == BYTES
    assert pipelines._bytes(sequences([3, 5])) == pytest.approx(4 * 2 * 4 + 8 + 4 + 3 * pipelines._TENSOR_BYTES)
    large = tf.data.Dataset.range(2).map(lambda place: tf.zeros((1_024, 1_024)))
    assert pipelines._chunk(large) == 1 and pipelines._chunk(sorted_by_class()) == 250


PEAK = """
import resource, sys
import mmkit
with mmkit.quiet_imports():
    import tensorflow as tf
    from mmkit import pipelines
data = tf.data.Dataset.range(2_400).map(lambda i: tf.fill((128, 128, 4), tf.cast(i, tf.float32)))  # of 256 kB each
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
list(pipelines.batches(data.take(32), 16, cache=False).map(lambda batch: batch[0, 0]))
before = peak()
batches = pipelines.batches(data, 16, shuffle=True, cache=False, shuffle_bytes=2**26)
print(sum(1 for _ in batches), peak() - before)
"""


@pytest.mark.slow
def test_the_memory_of_a_shuffled_stream_is_bounded(tmp_path):
    child = faults.run("-c", PEAK, env=faults.environment(tmp_path))
    assert child.returncode == 0, child.stderr
    steps, megabytes = child.stdout.split()
    assert int(steps) == 150 and float(megabytes) < 200  # of 600, 64 of them for the shuffle


# --- in files ---------------------------------------------------------------------------------------------------------


def test_kept_in_files(numbers, tmp_path):
    calls = []
    options = {"transform": counted(calls), "cache": tmp_path / "new" / "numbers", "shuffle": True}
    first = pipelines.batches(numbers, 4, **options)
    epochs = [drawn(first) for _ in range(2)]
    assert calls == [COUNT] and epochs[0] != epochs[1]
    again = pipelines.batches(numbers, 4, **options)
    in_memory = pipelines.batches(numbers, 4, shuffle=True)
    assert [drawn(again) for _ in range(2)] == epochs == [drawn(in_memory) for _ in range(2)]
    assert calls == 2 * [COUNT]  # one chunk, to see that the files are those of this transform
    resumed = pipelines.batches(numbers, 4, **options, start_step=7)
    assert drawn(resumed.take(5)) == epochs[1][4:]


def all_kinds(count: int = 5) -> tf.data.Dataset:
    """Examples of a text, texts of unequal number, sequences in a dict within, booleans and half precision."""

    def example(i: tf.Tensor) -> tuple:
        words = tf.fill([i + 1], tf.strings.as_string(i))
        steps = tf.cast(tf.range((i + 1) * 2), tf.float16)
        return {
            "text": tf.strings.reduce_join(words, separator=" ") + "\x00",
            "words": words,
            "inner": {"steps": tf.reshape(steps, (-1, 2))},
            "odd": i % 2 == 1,
            "brain": tf.cast(i, tf.bfloat16),
        }, tf.fill([3], i)

    return tf.data.Dataset.range(count).map(example)


def test_files_hold_every_kind_of_feature(tmp_path):
    for _ in range(2):
        expected = pipelines.batches(all_kinds(), 2, shuffle=True)
        for batch, found in zip(expected, pipelines.batches(all_kinds(), 2, shuffle=True, cache=tmp_path / "kinds")):
            tf.nest.map_structure(lambda a, b: np.testing.assert_array_equal(a.numpy(), b.numpy()), batch, found)
            assert "inner" in found[0] and found[0]["inner"]["steps_mask"].dtype == tf.bool


@pytest.mark.parametrize("other", [
    {"transform": lambda number: {"x": number + 1}},
    {"transform": lambda number: {"x": tf.cast(number, tf.float32)}},
    {"where": lambda number: number > 2},
])  # fmt: skip
def test_files_of_another_transform_are_not_used(numbers, tmp_path, other):
    made = pipelines.batches(numbers, 4, transform=lambda number: {"x": number}, cache=tmp_path / "made")
    assert drawn(made.map(lambda batch: batch["x"])) == list(range(COUNT))
    with pytest.raises(
        ValueError, match="made was made by another `transform`, or from other data: delete it, or name"
    ):
        pipelines.batches(numbers, 4, **{"transform": lambda number: {"x": number}, "cache": tmp_path / "made"} | other)


def test_files_of_more_examples_and_no_files_of_ours(numbers, tmp_path):
    pipelines.batches(numbers, 4, cache=tmp_path / "all")
    with pytest.raises(ValueError, match="all holds 23 examples and the data set 5: delete it, or name another"):
        pipelines.batches(numbers.take(5), 4, cache=tmp_path / "all")
    with pytest.raises(ValueError, match=f"{tmp_path.name} is no cache of the kit: name another place"):
        pipelines.batches(numbers, 4, cache=tmp_path)


def test_files_that_were_cut_short_are_made_anew(numbers, tmp_path):
    pipelines.batches(numbers, 4, cache=tmp_path / "cut")
    (tmp_path / "cut" / "0.bin").write_bytes(b"12345678")
    assert drawn(pipelines.batches(numbers, 4, cache=tmp_path / "cut")) == list(range(COUNT))


def test_a_transform_that_fails_half_way_leaves_no_files(numbers, tmp_path):
    with pytest.raises(tf.errors.InvalidArgumentError):
        pipelines.batches(numbers, 4, transform=lambda x: tf.ensure_shape(tf.boolean_mask(x, x < 20), (23,)),
                          cache=tmp_path / "half")  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["half.lock"]


SLOW_PASS = """
import sys, time
import mmkit
with mmkit.quiet_imports():
    import tensorflow as tf
    from mmkit import pipelines
pipelines._CHUNK = 10
def slowly(batch):
    time.sleep(float(sys.argv[2]))
    return batch
def transform(batch):
    result = tf.numpy_function(slowly, [batch], tf.int64)
    result.set_shape(batch.shape)
    return result
batches = pipelines.batches(tf.data.Dataset.range(400), 400, transform=transform, cache=sys.argv[1])
print(*next(iter(batches)).numpy())
"""


@pytest.mark.slow
def test_a_kill_in_the_first_pass_and_two_processes_at_once(tmp_path):
    place, environment = tmp_path / "cache" / "numbers", faults.environment(tmp_path)
    killed = faults.start("-c", SLOW_PASS, place, 1, env=environment)
    faults.wait_until(lambda: list(place.parent.glob(".numbers-partial-*/0.bin")))
    faults.kill(killed)
    assert not place.exists()
    other = faults.start("-c", SLOW_PASS, place, 0.05, env=environment, stdout=subprocess.PIPE, text=True)
    child = faults.run("-c", SLOW_PASS, place, 0.05, env=environment)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == other.communicate()[0].split() == [str(number) for number in range(400)]
    assert {path.name for path in place.parent.iterdir()} == {"numbers", "numbers.lock"}


# --- unequal lengths --------------------------------------------------------------------------------------------------

LENGTHS = [3, 9, 1, 4, 7, 2, 9, 6, 5, 1, 8]


def sequences(lengths=LENGTHS) -> tf.data.Dataset:
    """Sequences of two numbers a step, all equal to the sequence's place, under the name `sound`."""

    def sequence(place, length):
        return {"sound": tf.fill([length, 2], tf.cast(place, tf.float32)), "place": place}, length

    return tf.data.Dataset.from_tensor_slices((np.arange(len(lengths)), lengths)).map(sequence)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("transform", [None, lambda inputs, length: ({**inputs, "sound": inputs["sound"] * 2}, length)])
def test_unequal_lengths_are_padded_and_masked(cache, transform):
    places = []
    for inputs, lengths in pipelines.batches(sequences(), 4, cache=cache, shuffle=True, transform=transform):
        mask = inputs["sound_mask"].numpy()
        assert mask.dtype == bool and mask.shape == inputs["sound"].shape[:2] == (len(lengths), max(lengths))
        np.testing.assert_array_equal(mask.sum(axis=1), lengths)
        factor = 1 if transform is None else 2
        expected = mask[..., None] * np.asarray(inputs["place"])[:, None, None] * factor
        np.testing.assert_array_equal(inputs["sound"], np.broadcast_to(expected, inputs["sound"].shape))
        places += inputs["place"].numpy().tolist()
    assert sorted(places) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("cache", [True, False])
def test_a_batch_holds_lengths_of_one_bucket(cache):
    batches = pipelines.batches(sequences(), 3, cache=cache, shuffle=True, buckets={"sound": (3, 6)})
    epochs = [[lengths.numpy().tolist() for _, lengths in batches] for _ in range(2)]
    for epoch in epochs:
        assert sorted(sum(epoch, [])) == sorted(LENGTHS)
        assert all(len({(length >= 3) + (length >= 6) for length in batch}) == 1 for batch in epoch)
        assert len(epoch) == 4  # 3, 3 and 5 sequences, three a batch
    assert epochs[0] != epochs[1]
    resumed = pipelines.batches(sequences(), 3, cache=cache, shuffle=True, buckets={"sound": (3, 6)}, start_step=3)
    following = [lengths.numpy().tolist() for _, lengths in resumed.take(5)]
    assert following == (epochs[0] + epochs[1])[3:]


@pytest.mark.parametrize("buckets, match", [
    ({"noise": (3,)}, "one input of unequal length, of sound: got noise; the inputs are sound, place"),
    ({"place": (3,)}, "one input of unequal length, of sound: got place"),
    ({"sound": (3,), "place": (1,)}, "must name one input"),
    ({"sound": (6, 3)}, "growing order"),
    ({"sound": ()}, "growing order"),
])  # fmt: skip
@pytest.mark.parametrize("cache", [True, False])
def test_wrong_buckets(buckets, match, cache):
    with pytest.raises(ValueError, match=match):
        pipelines.batches(sequences(), 3, buckets=buckets, cache=cache)


def test_a_sequence_of_length_zero():
    empty = sequences([3, 0, 2])
    with pytest.raises(ValueError, match="'sound' holds a sequence of length 0: leave such examples out with `where`"):
        pipelines.batches(empty, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="sound.*length 0: leave such examples out"):
        list(pipelines.batches(empty, 2, cache=False))
    kept = pipelines.batches(empty, 2, where=lambda inputs, length: length > 0)
    assert [lengths.numpy().tolist() for _, lengths in kept] == [[3, 2]]


@pytest.mark.parametrize("cache", [True, False])
def test_unequal_lengths_are_padded_wherever_they_have_a_name(cache):
    named = sequences().map(lambda inputs, length: ({"near": {"far": inputs}}, {"steps": tf.range(length)}))
    batches = pipelines.batches(named, 4, cache=cache, augment=lambda x, y: (x, y["steps"], y["steps_mask"]))
    for inputs, labels, weights in batches:
        mask = inputs["near"]["far"]["sound_mask"].numpy()
        assert inputs["near"]["far"]["sound"].shape == (*mask.shape, 2)
        np.testing.assert_array_equal(weights, mask)
        np.testing.assert_array_equal(labels, np.where(mask, np.arange(mask.shape[1]), 0))


@pytest.mark.parametrize("change, place", [
    (lambda inputs, length: (inputs["sound"], length), "part 1 of each example"),
    (lambda inputs, length: (inputs, tf.range(length)), "part 2 of each example"),
    (lambda inputs, length: inputs["sound"], "each example"),
    (lambda inputs, length: ({"pair": (length, inputs["sound"])},), "part 2 of 'pair' of part 1 of each example"),
])  # fmt: skip
@pytest.mark.parametrize("cache", [True, False])
def test_unequal_lengths_without_a_name(change, place, cache):
    message = f"^{place} is of unequal length and has no name, which its mask would need: let `transform` put it into a"
    with pytest.raises(ValueError, match=message):
        pipelines.batches(sequences().map(change), 4, cache=cache)
    with pytest.raises(ValueError, match=message):
        pipelines.arrays(sequences().map(change))


@pytest.mark.parametrize("make", [pipelines.arrays, lambda data: pipelines.batches(data, 2, cache=False)])
def test_the_name_of_a_mask_may_not_be_taken(make):
    own = sequences().map(lambda inputs, length: {**inputs, "sound_mask": length})
    with pytest.raises(ValueError, match="^'sound_mask' is taken, and 'sound' needs it for its mask: give it another"):
        make(own)


def test_arrays_of_unequal_lengths_do_not_depend_on_chunks(monkeypatch):
    inputs, lengths = pipelines.arrays(sequences())
    assert inputs["sound"].shape == (len(LENGTHS), max(LENGTHS), 2)
    np.testing.assert_array_equal(inputs["sound_mask"].sum(axis=1), LENGTHS)
    np.testing.assert_array_equal(lengths, LENGTHS)
    monkeypatch.setattr(pipelines, "_CHUNK", 3)
    again, _ = pipelines.arrays(sequences())
    tf.nest.map_structure(np.testing.assert_array_equal, again, inputs)


def padded_by_itself(inputs, length):
    return {"sound": inputs["sound"].to_tensor()}, length


@pytest.mark.parametrize("make, message", [
    (pipelines.arrays, r"has another shape in each chunk of examples, \(9, 2\) and \(7, 2\): leave features of"),
    (lambda data, **more: pipelines.batches(data, 2, cache=False, **more), r"one is \(None, None, 2\): leave features"),
])  # fmt: skip
def test_a_transform_that_pads_by_itself_is_told_not_to(monkeypatch, tmp_path, make, message):
    monkeypatch.setattr(pipelines, "_CHUNK", 3)
    with pytest.raises(ValueError, match=message):
        make(sequences(), transform=padded_by_itself)
    with pytest.raises(ValueError, match="has another shape in each chunk"):
        pipelines.batches(sequences(), 2, transform=padded_by_itself, cache=tmp_path / "padded")


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("buckets", [None, {"sound": (3, 6)}])
def test_batches_of_one_size(cache, buckets):
    batches = pipelines.batches(sequences(), 3, cache=cache, shuffle=True, buckets=buckets, drop_remainder=True)
    sizes = [len(lengths) for _, lengths in batches]
    assert set(sizes) == {3} and len(sizes) == 3
    assert batches.element_spec[1].shape == (3,) and batches.element_spec[0]["sound"].shape == (3, None, 2)
    assert int(batches.cardinality()) in (3, tf.data.UNKNOWN_CARDINALITY)
    resumed = pipelines.batches(
        sequences(), 3, cache=cache, shuffle=True, buckets=buckets, drop_remainder=True, start_step=4
    )
    second = [lengths.numpy().tolist() for _, lengths in batches]
    assert [lengths.numpy().tolist() for _, lengths in resumed.take(2)] == second[1:]


@pytest.mark.parametrize("options", [{}, {"cache": False}, {"start_step": 0}, {"cache": False, "start_step": 0}])
def test_no_batch_of_that_size(numbers, options):
    with pytest.raises(ValueError, match="no batch has 24 examples: take a smaller batch_size, or not drop_remainder"):
        pipelines.batches(numbers, 24, drop_remainder=True, **options)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument, call", [
    ("transform", DigitSenses()),
    ("transform", lambda example: example["audio"]),
    ("where", lambda example: example["audio"] > 0),
])  # fmt: skip
def test_a_missing_feature_is_named(argument, call):
    dataset = tf.data.Dataset.from_tensor_slices({"image": np.zeros((3, 28, 28, 1)), "label": np.zeros(3)})
    with pytest.raises(ValueError, match=f"^{argument} asks for 'audio': the data set has image, label$"):
        pipelines.batches(dataset, 2, **{argument: call})


def test_errors_of_transform_itself_are_not_hidden(numbers):
    def transform(batch):
        raise RuntimeError("my own mistake")

    with pytest.raises(RuntimeError, match="my own mistake"):
        pipelines.batches(numbers, 2, transform=transform)


def test_functions_may_branch_and_loop_over_tensors():
    def transform(batch):
        if tf.reduce_sum(batch) > 3:
            batch = batch + 100
        return batch

    def augment(batch, seed):
        for _ in tf.range(2):
            batch = batch * 2
        return batch

    batches = pipelines.batches(
        tf.data.Dataset.range(4), 4, where=lambda n: n > 0 and n < 3, transform=transform, augment=augment
    )
    assert drawn(batches) == [4, 8]
    assert drawn(pipelines.batches(tf.data.Dataset.range(4), 4, transform=transform)) == [100, 101, 102, 103]


def test_start_step_must_not_be_negative(numbers):
    with pytest.raises(ValueError, match="negative: got -1"):
        pipelines.batches(numbers, 2, start_step=-1)


# --- augmentation in the training step --------------------------------------------------------------------------------


def small_model() -> keras.Model:
    inputs = {"image": keras.Input((8, 8, 1), name="image"), "touch": keras.Input((3,), name="touch")}
    flat = keras.layers.Flatten()(inputs["image"])
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()([flat, inputs["touch"]])))


def test_augmented_changes_training_alone_and_shares_weights():
    model = small_model()
    rows = {"image": np.random.default_rng(0).random((5, 8, 8, 1), "float32"), "touch": np.ones((5, 3), "float32")}
    changed = augmented(model, {"image": keras.layers.RandomTranslation(0.5, 0.5, seed=0)})
    np.testing.assert_allclose(changed(rows, training=False), model(rows), rtol=1e-6)
    assert np.abs(changed(rows, training=True) - model(rows)).max() > 1e-3
    changed.compile("sgd", "mse")
    before = model.get_weights()[0]
    changed.fit(rows, np.ones((5, 2)), verbose=0)
    assert np.abs(model.get_weights()[0] - before).max() > 0


def test_augmented_names_an_unknown_input():
    with pytest.raises(ValueError, match="there is no input 'audio' to augment: the model has image, touch"):
        augmented(small_model(), {"audio": keras.layers.GaussianNoise(1.0)})


ON_THE_DEVICE = """
import mmkit
with mmkit.quiet_imports():
    import keras
    import numpy as np
    import tensorflow as tf
    from mmkit import pipelines
    from mmkit.datasets.av_digits import mel_spectrogram
    from mmkit.training import augmented
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
ran_on = {"augmented": set(), "spectrogram": set()}

class Noted(keras.layers.Layer):
    def __init__(self, layer, name):
        super().__init__(name=name)
        self.layer = layer
    def call(self, x):
        y = self.layer(x)
        ran_on[self.name].add(y.device[-5:])
        return y

random = np.random.default_rng(0)
data = tf.data.Dataset.from_tensor_slices(({"sound": random.random((8, 6400), "float32")}, random.integers(0, 3, 8)))
batches = pipelines.batches(data, 4, augment=lambda rows, labels: (rows, labels + 0), device="/CPU:0")
with tf.distribute.OneDeviceStrategy("/CPU:1").scope():
    sound = {"sound": keras.Input((6400,), name="sound")}
    mel = Noted(mel_spectrogram(), "spectrogram")(sound["sound"])
    model = keras.Model(sound, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling1D()(mel)))
    train_me = augmented(model, {"sound": Noted(keras.layers.GaussianNoise(0.1), "augmented")})
train_me.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
for places in ran_on.values():
    places.clear()
train_me.fit(batches, verbose=0, shuffle=False)
ran_on["pipeline"] = {labels.device[-5:] for _, labels in batches}
print(*(f"{what}: {''.join(sorted(places))}" for what, places in ran_on.items()), sep="; ")
"""


@pytest.mark.slow
def test_what_runs_on_which_device(tmp_path):
    child = faults.run("-c", ON_THE_DEVICE, env=faults.environment(tmp_path))
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip() == "augmented: CPU:1; spectrogram: CPU:1; pipeline: CPU:0"


# --- DigitSenses --------------------------------------------------------------------------------------------------


def some_digits(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8),
        "audio": random.integers(-9_000, 9_000, (count, 6_400), dtype=np.int16),
        "touch": random.integers(0, 256, (count, 48, 16), dtype=np.uint8),
        "label": np.arange(count),
    }


def test_layers_that_keep_their_own_chance_repeat_it(numbers):
    def augmented_twice():
        noise = keras.layers.GaussianNoise(1.0, seed=3)
        ready = pipelines.batches(
            tf.data.Dataset.range(400), 2, augment=lambda batch: noise(tf.cast(batch, tf.float32), training=True)
        )
        return np.concatenate([np.concatenate(list(ready.as_numpy_iterator())) for _ in range(2)])

    first = augmented_twice()
    np.testing.assert_array_equal(first, augmented_twice())
    assert not np.allclose(first[:400], first[400:])


def test_arrays(numbers):
    everything = list(numbers.as_numpy_iterator())
    assert tf.nest.flatten(pipelines.arrays(numbers))[0].tolist() == [tf.nest.flatten(one)[0] for one in everything]
    twice = tf.data.Dataset.range(600)  # more than a chunk
    inputs, label = pipelines.arrays(twice, transform=lambda number: ({"double": number * 2}, number))
    assert inputs["double"].tolist() == list(range(0, 1200, 2)) and label.shape == (600,)
    with pytest.raises(ValueError, match="the data set is empty"):
        pipelines.arrays(numbers.take(0))


def test_digit_senses():
    digits = some_digits(3)
    inputs, labels = DigitSenses()(digits)
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
    together = np.asarray(DigitSenses()(digits)[0]["audio"])
    for i in range(4):
        alone = DigitSenses()({name: values[i : i + 1] for name, values in digits.items()})[0]["audio"]
        np.testing.assert_allclose(together[i], np.asarray(alone)[0], rtol=1e-3, atol=1e-3)
        decibels = np.asarray(mel_spectrogram()(digits["audio"][i : i + 1] / np.float32(32_768)))[0].T
        expected = (decibels - decibels.mean()) / decibels.std()
        np.testing.assert_allclose(together[i, :, :, 0], expected, rtol=1e-3, atol=1e-3)


def test_a_clip_does_not_depend_on_its_neighbours():
    random = np.random.default_rng(0)
    quiet, loud = random.normal(size=(1, 8_000)) * 3e-5, random.normal(size=(1, 8_000))
    spectrogram = mel_spectrogram()
    alone, beside = spectrogram(quiet.astype("float32")), spectrogram(np.concatenate([quiet, loud]).astype("float32"))
    np.testing.assert_allclose(np.asarray(beside)[0], np.asarray(alone)[0], atol=1e-3)


def test_silence_is_finite():
    digits = some_digits(2)
    digits["audio"][0] = 0
    assert np.isfinite(np.asarray(DigitSenses()(digits)[0]["audio"])).all()


@pytest.mark.parametrize("hertz", [200, 500, 1_000, 2_000, 3_500])
def test_a_tone_is_loudest_in_its_mel_band(hertz):
    def mel(frequency):
        return 2_595 * np.log10(1 + frequency / 700)

    tone = np.sin(2 * np.pi * hertz * np.arange(6_400) / 8_000).astype(np.float32)
    loudness = np.asarray(mel_spectrogram()(tone[None]))[0].mean(axis=1)
    centres = np.linspace(mel(60), mel(4_000), MEL_BINS + 2)[1:-1]
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
history = model.fit(batches, epochs=2, verbose=0, shuffle=False, callbacks=[count])
resumed = pipelines.batches(data, 8, shuffle=True, seed=3, device="/CPU:0", start_step=len(steps) + 3)
model.fit(resumed, steps_per_epoch=4, verbose=0, shuffle=False, callbacks=[count])
print(len(steps), *history.history["loss"], *model.get_weights()[0].ravel()[:5])
"""


@pytest.mark.slow
def test_the_same_training_on_one_device_and_on_two(tmp_path):
    results = []
    for devices in (1, 2):
        child = faults.run("-c", TWO_DEVICES, devices, env=faults.environment(tmp_path))
        assert child.returncode == 0, child.stderr
        results.append([float(word) for word in child.stdout.split()])
    assert results[0][0] == results[1][0] == 14  # steps: two epochs of five batches, and four more
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-6)
