"""The text branch: a pretrained BERT, frozen or fine-tuned, as one modality among others."""

import gc
import weakref
from typing import Any

import keras
import numpy as np
from keras import ops

from mmkit import pretrained
from mmkit.layers import masks
from mmkit.layers.base import check_positive
from mmkit.layers.kernels import branch_config, freeze, inner_options, settle, take_kernel_options
from mmkit.layers.types import Shape, Tensor

POOLINGS = ("cls", "mean", "attention")
TRAINS = ("none", "last", "lora", "all")


@keras.saving.register_keras_serializable("mmkit")
class BertTextBranch(keras.layers.Layer):
    """A BERT and one dense layer: the ids of word pieces become features.

    What of the BERT is trained, `train` says. Its layers below the first that is trained are **frozen**: they give
    the same states for the same text every time (no dropout there either). So a data set may pass through them once,
    `states = branch.frozen_states(token_ids, mask)`, and the branch be trained on `states` in place of the ids: same
    results, less work. Call the same branch in two models, one over `keras.Input((None,), dtype="int32")` for ids and
    one over `keras.Input((None, branch.width))` for states, and they share its weights.

    `trainable = False` freezes all of the branch, and `trainable = True` brings back what `train` says. `set_train`
    changes `train`: train on a frozen BERT first, then change it, compile again with a small rate, and train on.

    Args:
        units: int, size of the features.
        backbone: a `keras_hub.models.BertBackbone`, which the branch takes over: give each branch one of its own, since
            each marks in it what is trained. None: `mmkit.pretrained.text_backbone()`.
        pooling: "mean" (default) of the tokens, "cls": the first one, or "attention": a weighted mean, its weights
            learned.
        train: "none" (default) of the BERT's weights; those of its "last" layers; "lora": small additions of low rank
            to the queries and values of attention (with their biases), by Keras's `enable_lora`; or "all".
        last: int, how many of the upper layers "last" and "lora" reach; None: 2 for "last", all for "lora".
        rank: int, default 4: of the additions.
        tokens: bool, default False: whether to give features for each token in place of pooling.
        activation: of the dense layer, default None.
        kernel_initializer: of the dense layer and of attention, default "glorot_uniform".
        kernel_regularizer: of the same, default None.

    Call arguments:
        inputs: token ids `(batch, time)`, whole numbers; or, if part of the BERT is frozen, states
            `(batch, time, width)` that `frozen_states` gave.
        mask: `(batch, time)` booleans, which tokens are there (`token_ids != 0` for padded texts), or `(batch,)`,
            whether there is a text at all; a text of no tokens gives zeros. None: all tokens are there.

    Returns:
        `(batch, units)`, or `(batch, time, units)` with its mask if `tokens`.

    Raises:
        ValueError: if an argument is unknown or not positive, the backbone is another branch's, a shape is wrong, ids
            are no whole numbers, or states are given though nothing is frozen.

    Source: Devlin, Chang, Lee and Toutanova (2019), BERT; Hu and others (2022), LoRA; pooling by attention: Yang and
    others (2016), Hierarchical attention networks for document classification.

    Example:
        >>> import numpy as np
        >>> from keras_hub.models import BertBackbone
        >>> from mmkit import layers
        >>> bert = BertBackbone(100, num_layers=3, num_heads=2, hidden_dim=8, intermediate_dim=16)  # without: MiniLM
        >>> branch = layers.BertTextBranch(4, backbone=bert, train="last", last=1)
        >>> token_ids = np.array([[5, 7, 9, 0], [3, 0, 0, 0]])
        >>> features = branch(token_ids, mask=token_ids != 0)
        >>> features.shape
        TensorShape([2, 4])
        >>> states = branch.frozen_states(token_ids, token_ids != 0)  # of two of the three layers
        >>> np.allclose(branch(states, mask=token_ids != 0), features, atol=1e-5)
        True
    """

    def __init__(
        self,
        units: int,
        backbone: Any = None,
        pooling: str = "mean",
        train: str = "none",
        last: int | None = None,
        rank: int = 4,
        tokens: bool = False,
        activation: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        # autocast would round ids that come as numbers with a point; what comes is checked and cast in `call`.
        super().__init__(autocast=False, **kwargs)
        for name, given, known in (("pooling", pooling, POOLINGS), ("train", train, TRAINS)):
            if given not in known:
                raise ValueError(f"BertTextBranch: unknown {name} {given!r}: use one of {', '.join(known)}")
        check_positive(self, units=units, rank=rank, last=1 if last is None else last)
        if backbone is None:
            backbone = pretrained.text_backbone(dtype=self.dtype_policy)
        count = len(backbone.transformer_layers)
        if last is not None and last > count:
            raise ValueError(f"BertTextBranch: last is {last}, but the backbone has {count} layers")
        self.units, self.pooling, self.train, self.last = units, pooling, train, last
        self.rank, self.tokens, self.activation = rank, tokens, activation
        _take(backbone, self)
        self.backbone = backbone
        take_kernel_options(self, kernel_initializer, kernel_regularizer)
        self.width = backbone.hidden_dim
        self.supports_masking = True
        self.first_trained = count - self._reach()  # the layers below are frozen; the embeddings are, but for "all"
        self._reads_states = False
        self.attend = None
        if pooling == "attention" and not tokens:
            self.attend = keras.layers.Dense(1, use_bias=False, name="attend", **inner_options(self))
        self.projection = keras.layers.Dense(units, activation=activation, name="projection", **inner_options(self))
        if train == "lora":
            for dense in self._with_lora():
                dense.enable_lora(rank)
                _restart_lora_when_loaded(dense)
        self._freeze()

    @property
    def trainable(self) -> bool:
        """Whether the branch is trained at all; what of it, `train` says."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        if hasattr(self, "projection"):
            self._freeze() if value else freeze(self)

    def set_train(self, train: str, last: int | None = None) -> None:
        """Changes what of the BERT is trained from now on. Compile the model again afterwards, as Keras asks for.

        Args:
            train: "none", "last" or "all", as for the branch.
            last: int, how many of the upper layers "last" reaches; None: 2.

        Raises:
            ValueError: if `train` is another, or the branch has LoRA, or it reads states: these are of other layers.

        Example:
            >>> import keras
            >>> from keras_hub.models import BertBackbone
            >>> from mmkit import layers
            >>> bert = BertBackbone(100, num_layers=3, num_heads=2, hidden_dim=8, intermediate_dim=16)
            >>> ids = keras.Input((4,), dtype="int32")
            >>> branch = layers.BertTextBranch(2, backbone=bert)
            >>> model = keras.Model(ids, branch(ids))
            >>> len(model.trainable_weights)  # of the dense layer; now compile and fit
            2
            >>> branch.set_train("last", last=1)  # then compile again, with a small rate, and fit
            >>> len(model.trainable_weights)
            18
        """
        if train not in ("none", "last", "all"):
            raise ValueError(f"BertTextBranch: set_train takes none, last or all, not {train!r}")
        if self.train == "lora":
            raise ValueError("BertTextBranch: with LoRA it stays what is trained: make another branch")
        if self._reads_states:
            raise ValueError("BertTextBranch: it reads states of the layers frozen so far: make another branch, on ids")
        count = len(self.backbone.transformer_layers)
        if last is not None and not 0 < last <= count:
            raise ValueError(f"BertTextBranch: last is {last}, but the backbone has {count} layers")
        self.train, self.last = train, last
        self.first_trained = count - self._reach()
        self._freeze()

    def _reach(self) -> int:
        """How many of the upper layers are trained."""
        count = len(self.backbone.transformer_layers)
        reach = {"none": 0, "last": 2 if self.last is None else self.last, "lora": self.last or count, "all": count}
        return min(reach[self.train], count)

    def _freeze(self) -> None:
        """Marks what is trained of the backbone."""
        bert, upper = self.backbone, self.backbone.transformer_layers[self.first_trained :]
        bert.trainable = True
        for layer in bert.layers:
            layer.trainable = self.train == "all" or (self.train == "last" and layer in upper)
        bert.pooled_dense.trainable = False  # it has no part in this
        for dense in self._with_lora():
            dense.trainable = True
            for weight in dense.weights:  # the additions and the bias: the kernel that they are added to stays
                weight.trainable = weight.name != "kernel"

    def _with_lora(self) -> list[keras.layers.Layer]:
        """The backbone's layers to which LoRA adds."""
        upper = self.backbone.transformer_layers[self.first_trained :] if self.train == "lora" else []
        return [one for layer in upper for one in layer._flatten_layers() if one.name in ("query", "value")]

    def build(self, input_shape: Shape) -> None:
        self._check_rank(input_shape)
        if self.attend is not None:
            self.attend.build((None, None, self.width))
        self.projection.build((None, None, self.width) if self.tokens else (None, self.width))
        settle(self)

    def _check_rank(self, shape: Shape) -> None:
        shape = tuple(shape)
        if len(shape) not in (2, 3):
            raise ValueError(
                f"BertTextBranch: modality {self.name!r} has shape {shape}, wanted token ids (batch, time) "
                f"or states of the frozen layers (batch, time, {self.width})"
            )
        if len(shape) == 3 and (self.train == "all" or shape[2] != self.width):
            frozen = "all layers are trained" if self.train == "all" else f"states have a last axis of {self.width}"
            raise ValueError(f"BertTextBranch: modality {self.name!r} has shape {shape}, but {frozen}")
        longest = self.backbone.max_sequence_length
        if shape[1] is not None and shape[1] > longest:
            raise ValueError(
                f"BertTextBranch: modality {self.name!r} has shape {shape}, but its BERT reads {longest} tokens at most"
            )

    def call(self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        self._check_rank(inputs.shape)
        mask = self._per_token(mask, inputs)
        if len(inputs.shape) == 2:
            states = self._lower(inputs, mask, training)
        else:
            self._reads_states = True
            states = masks.keep(ops.cast(inputs, self.backbone.compute_dtype), mask)
        for layer in self.backbone.transformer_layers[self.first_trained :]:
            states = layer(states, padding_mask=mask, training=training)
        states = masks.keep(ops.cast(states, self.compute_dtype), mask)
        if self.tokens:
            return masks.keep(self.projection(states), mask)
        return masks.keep(self.projection(self._pool(states, mask)), masks.is_present(mask))

    def _lower(self, token_ids: Tensor, mask: Tensor, training: bool | None) -> Tensor:
        """The states below the first layer that is trained."""
        if "int" not in keras.backend.standardize_dtype(token_ids.dtype):
            raise ValueError(
                f"BertTextBranch: modality {self.name!r} has shape {tuple(token_ids.shape)} and type "
                f'{token_ids.dtype}: token ids are whole numbers (keras.Input(shape, dtype="int32"))'
            )
        training = training if self.train == "all" else False
        bert = self.backbone
        ids = ops.where(mask, ops.cast(token_ids, "int32"), 0)  # whatever an absent token holds
        words = bert.token_embedding(ids)
        embedded = [words, bert.position_embedding(words), bert.segment_embedding(ops.zeros_like(ids))]
        states = bert.embeddings_layer_norm(bert.embeddings_add(embedded))
        states = bert.embeddings_dropout(states, training=training)
        for layer in bert.transformer_layers[: self.first_trained]:
            states = layer(states, padding_mask=mask, training=False)
        return masks.keep(states, mask)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """One vector a text, summed in float32."""
        if self.pooling == "mean":
            return masks.mean_over_time(states, mask)
        if self.pooling == "cls":  # the first token that is there
            weights = ops.logical_and(mask, ops.equal(ops.cumsum(ops.cast(mask, "int32"), axis=1), 1))
            weights = ops.cast(weights, "float32")
        else:
            scores = ops.cast(self.attend(states)[..., 0], "float32")
            scores = ops.where(mask, scores, -1e9)  # finite: where no token is there, the result is set to zero below
            weights = ops.where(mask, ops.softmax(scores, axis=1), 0.0)
        pooled = ops.sum(ops.expand_dims(weights, -1) * ops.cast(states, "float32"), axis=1)
        return ops.cast(pooled, states.dtype)

    def _per_token(self, mask: Tensor | None, inputs: Tensor) -> Tensor:
        """The mask of the tokens: `(batch, time)` booleans."""
        if mask is None:
            return ops.ones_like(inputs if len(inputs.shape) == 2 else inputs[..., 0], dtype="bool")
        return masks.per_step(masks.check_mask("BertTextBranch", self.name, mask, inputs, per_step=True), inputs)

    def frozen_states(self, token_ids: np.ndarray, mask: np.ndarray | None = None, batch_size: int = 64) -> np.ndarray:
        """What the frozen layers give for a whole data set, computed once: the input to train the upper layers on.

        Args:
            token_ids: `(examples, time)`.
            mask: `(examples, time)` or `(examples,)` booleans, or None.
            batch_size: texts computed at a time.

        Returns:
            `(examples, time, width)`, zeros for absent tokens. Pass them to the branch with the same mask.

        Raises:
            ValueError: if nothing is frozen, or a shape is wrong.
        """
        if self.train == "all":
            raise ValueError("BertTextBranch: with train='all' no layer is frozen, so there is nothing to keep")
        token_ids = np.asarray(token_ids)
        self._check_rank(token_ids.shape)
        if len(token_ids.shape) != 2:
            raise ValueError(f"BertTextBranch: frozen_states wants token ids (examples, time): got {token_ids.shape}")
        mask = ops.convert_to_numpy(self._per_token(mask, token_ids))
        inputs = [keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="bool")]
        lower = keras.Model(inputs, self._lower(*inputs, training=False))
        return lower.predict([token_ids, mask], batch_size=batch_size, verbose=0)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return self._per_token(previous_mask, inputs) if self.tokens and previous_mask is not None else None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[: 2 if self.tokens else 1], self.units)

    def get_config(self) -> dict[str, Any]:
        own = branch_config(self, "units", "pooling", "train", "last", "rank", "tokens", "activation")
        return {**super().get_config(), **own, "backbone": keras.saving.serialize_keras_object(self.backbone)}

    @classmethod
    def from_config(cls, config: dict) -> "BertTextBranch":
        pretrained.hub()  # imports it, so that Keras knows the backbone's class
        return cls(**{**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})


_owners: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # from the id of a backbone to its branch


def _take(backbone: keras.Model, branch: BertTextBranch) -> None:
    """Notes that `backbone` is the branch's, which marks in it what is trained; a file holds it once, with its branch.

    Raises:
        ValueError: if it is another branch's.
    """
    if id(backbone) in _owners:
        gc.collect()  # a branch that is no longer used may not have been cleared away yet
    if id(backbone) in _owners:
        raise ValueError(
            f"BertTextBranch: backbone {backbone.name!r} belongs to the branch {_owners[id(backbone)].name!r}: give "
            "each branch one of its own (mmkit.pretrained.text_backbone() makes one), or call one branch for both texts"
        )
    _owners[id(backbone)] = branch


def _restart_lora_when_loaded(dense: keras.layers.Layer) -> None:
    """Keeps a layer with LoRA trainable after it was loaded from a file.

    Keras saves such a layer with the product of the two additions A and B merged into its kernel, and sets both to
    zero when it loads them. Then the gradient of each is zero, because the other is, and neither ever moves. So A is
    drawn anew here; with B at zero the outputs are the stored ones.
    """
    load = dense.load_own_variables

    def load_and_restart(store: Any) -> None:
        load(store)
        dense.lora_kernel_a.assign(keras.initializers.HeUniform()(dense.lora_kernel_a.shape, "float32"))

    dense.load_own_variables = load_and_restart
