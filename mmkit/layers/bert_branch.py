"""The text branch: a pretrained BERT, frozen or fine-tuned, as one modality among others."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mmkit.layers import masks

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

    Args:
        units: size of the features.
        backbone: a `keras_hub.models.BertBackbone`, which the branch takes over: give each branch one of its own.
            None: `mmkit.pretrained.text_backbone()`.
        pooling: "mean" of the tokens, "cls": the first one, or "attention": a weighted mean, its weights learned.
        train: "none" of the BERT's weights; those of its "last" layers; "lora": small additions of low rank to the
            queries and values of attention (with their biases), by Keras's `enable_lora`; or "all".
        last: how many of the upper layers "last" and "lora" reach; None: 2 for "last", all for "lora".
        rank: of the additions.
        tokens: whether to give features for each token in place of pooling.
        activation: of the dense layer.

    Call arguments:
        inputs: token ids `(batch, time)`, whole numbers; or, if part of the BERT is frozen, states
            `(batch, time, width)` that `frozen_states` gave.
        mask: `(batch, time)` booleans, which tokens are there (`token_ids != 0` for padded texts), or `(batch,)`,
            whether there is a text at all; a text of no tokens gives zeros. None: all tokens are there.

    Returns:
        `(batch, units)`, or `(batch, time, units)` with its mask if `tokens`.

    Raises:
        ValueError: if an argument is unknown or not positive, a shape is wrong, ids are no whole numbers, or states are
            given though nothing is frozen.

    Source: Devlin, Chang, Lee and Toutanova (2019), BERT; Hu and others (2022), LoRA; pooling by attention: Yang and
    others (2016), Hierarchical attention networks for document classification.
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
        **kwargs: Any,
    ) -> None:
        # autocast would round ids that come as numbers with a point; what comes is checked and cast in `call`.
        super().__init__(autocast=False, **kwargs)
        if pooling not in POOLINGS:
            raise ValueError(f"BertTextBranch: unknown pooling {pooling!r}: use one of {', '.join(POOLINGS)}")
        if train not in TRAINS:
            raise ValueError(f"BertTextBranch: unknown train {train!r}: use one of {', '.join(TRAINS)}")
        if min(units, rank, 1 if last is None else last) < 1:
            raise ValueError(f"BertTextBranch: units, last and rank must be positive: got {units}, {last}, {rank}")
        if backbone is None:
            from mmkit import pretrained

            backbone = pretrained.text_backbone(dtype=self.dtype_policy)
        count = len(backbone.transformer_layers)
        if last is not None and last > count:
            raise ValueError(f"BertTextBranch: last is {last}, but the backbone has {count} layers")
        self.units, self.pooling, self.train, self.last = units, pooling, train, last
        self.rank, self.tokens, self.activation = rank, tokens, activation
        self.backbone = backbone
        self.width = backbone.hidden_dim
        self.supports_masking = True
        reach = {"none": 0, "last": 2 if last is None else last, "lora": last or count, "all": count}[train]
        self.first_trained = count - min(reach, count)  # the layers below are frozen; the embeddings are, but for "all"
        self._freeze()
        self.attend = None
        if pooling == "attention" and not tokens:
            self.attend = keras.layers.Dense(1, use_bias=False, dtype=self.dtype_policy, name="attend")
        self.projection = keras.layers.Dense(units, activation=activation, dtype=self.dtype_policy, name="projection")

    def _freeze(self) -> None:
        """Marks what is trained, and adds what LoRA trains."""
        bert, upper = self.backbone, self.backbone.transformer_layers[self.first_trained :]
        bert.trainable = True
        for layer in bert.layers:
            layer.trainable = self.train == "all" or (self.train == "last" and layer in upper)
        bert.pooled_dense.trainable = False  # it has no part in this
        if self.train == "lora":
            for layer in upper:
                for dense in (one for one in layer._flatten_layers() if one.name in ("query", "value")):
                    dense.trainable = True
                    dense.enable_lora(self.rank)
                    _restart_lora_when_loaded(dense)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self._check_rank(input_shape)
        if self.attend is not None:
            self.attend.build((None, None, self.width))
        self.projection.build((None, None, self.width) if self.tokens else (None, self.width))

    def _check_rank(self, shape: Sequence[int | None]) -> None:
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

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        self._check_rank(inputs.shape)
        there = self._per_token(mask, inputs)
        if len(inputs.shape) == 2:
            states = self._lower(inputs, there, training)
        else:
            states = masks.keep(ops.cast(inputs, self.backbone.compute_dtype), there)
        for layer in self.backbone.transformer_layers[self.first_trained :]:
            states = layer(states, padding_mask=there, training=training)
        states = masks.keep(ops.cast(states, self.compute_dtype), there)
        if self.tokens:
            return masks.keep(self.projection(states), there)
        return masks.keep(self.projection(self._pool(states, there)), masks.is_present(there))

    def _lower(self, token_ids: Any, there: Any, training: bool | None) -> Any:
        """The states below the first layer that is trained."""
        if "int" not in keras.backend.standardize_dtype(token_ids.dtype):
            raise ValueError(
                f"BertTextBranch: modality {self.name!r} has shape {tuple(token_ids.shape)} and type "
                f'{token_ids.dtype}: token ids are whole numbers (keras.Input(shape, dtype="int32"))'
            )
        training = training if self.train == "all" else False
        bert = self.backbone
        ids = ops.where(there, ops.cast(token_ids, "int32"), 0)  # whatever an absent token holds
        words = bert.token_embedding(ids)
        embedded = [words, bert.position_embedding(words), bert.segment_embedding(ops.zeros_like(ids))]
        states = bert.embeddings_layer_norm(bert.embeddings_add(embedded))
        states = bert.embeddings_dropout(states, training=training)
        for layer in bert.transformer_layers[: self.first_trained]:
            states = layer(states, padding_mask=there, training=False)
        return masks.keep(states, there)

    def _pool(self, states: Any, there: Any) -> Any:
        """One vector a text, summed in float32."""
        if self.pooling == "mean":
            return masks.mean_over_time(states, there)
        if self.pooling == "cls":  # the first token that is there
            weights = ops.logical_and(there, ops.equal(ops.cumsum(ops.cast(there, "int32"), axis=1), 1))
            weights = ops.cast(weights, "float32")
        else:
            scores = ops.cast(self.attend(states)[..., 0], "float32")
            scores = ops.where(there, scores, -1e9)  # finite: where no token is there, the result is set to zero below
            weights = ops.where(there, ops.softmax(scores, axis=1), 0.0)
        pooled = ops.sum(ops.expand_dims(weights, -1) * ops.cast(states, "float32"), axis=1)
        return ops.cast(pooled, states.dtype)

    def _per_token(self, mask: Any, inputs: Any) -> Any:
        """Which tokens are there: `(batch, time)` booleans."""
        everything = ops.ones_like(inputs if len(inputs.shape) == 2 else inputs[..., 0], dtype="bool")
        if mask is None:
            return everything
        mask = masks.check_mask("BertTextBranch", self.name, mask, inputs, per_step=True)
        return mask if len(mask.shape) == 2 else ops.logical_and(ops.expand_dims(mask, 1), everything)

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
        there = ops.convert_to_numpy(self._per_token(mask, token_ids))
        inputs = [keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="bool")]
        lower = keras.Model(inputs, self._lower(*inputs, training=False))
        return lower.predict([token_ids, there], batch_size=batch_size, verbose=0)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self._per_token(previous_mask, inputs) if self.tokens and previous_mask is not None else None

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        return (*input_shape[: 2 if self.tokens else 1], self.units)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "pooling": self.pooling,
            "train": self.train,
            "last": self.last,
            "rank": self.rank,
            "tokens": self.tokens,
            "activation": self.activation,
        }

    @classmethod
    def from_config(cls, config: dict) -> "BertTextBranch":
        from mmkit import pretrained

        pretrained.hub()  # imports it, so that Keras knows the backbone's class
        return cls(**{**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})


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
