"""`intents`: what people say to their home, and what they want of it, written out of Home Assistant's templates."""

import json
import re

import numpy as np
import tensorflow_datasets as tfds

from mmkit.datasets.base import KitBuilder
from mmkit.ground import sources

SPLITS = ("train", "validation", "test")
INTENTS = (
    "HassBroadcast HassCancelAllTimers HassCancelTimer HassClimateGetTemperature HassClimateSetFanMode "
    "HassClimateSetTemperature HassDecreaseTimer HassFanSetSpeed HassGetCurrentDate HassGetCurrentTime "
    "HassGetState HassGetWeather HassIncreaseTimer HassLawnMowerDock HassLawnMowerStartMowing HassLightSet "
    "HassListAddItem HassListCompleteItem HassListRemoveItem HassMediaNext HassMediaPause HassMediaPlayerMute "
    "HassMediaPlayerUnmute HassMediaPrevious HassMediaSearchAndPlay HassMediaUnpause HassNevermind "
    "HassPauseTimer HassRespond HassSetPosition HassSetVolume HassSetVolumeRelative HassShoppingListAddItem "
    "HassShoppingListCompleteItem HassStartTimer HassTimerStatus HassTurnOff HassTurnOn HassUnpauseTimer "
    "HassVacuumCleanArea HassVacuumReturnToBase HassVacuumStart"
).split()
PER_INTENT = {"small": 120, "full": 1_200}  # sentences wanted of each intent, shared out to its templates
# What the templates leave open, for the home they are used in fills it: these words are the kit's own.
ROOMS = (
    "kitchen, bedroom, living room, bathroom, hallway, garage, attic, office, dining room, nursery, guest room, "
    "laundry room, balcony, playroom, library, workshop"
).split(", ")
FLOORS = "ground, first, second, upper, lower, top".split(", ")
WORDS = {
    "area": ROOMS,
    "floor": FLOORS,
    "message": "dinner is ready, the bus leaves in ten minutes, please come downstairs, good night, it is snowing, "
    "the washing is done, grandma is here, time to go to bed, the cake is out of the oven, we are leaving now, "
    "breakfast is on the table, somebody is at the door, the film starts, please tidy up, happy birthday".split(", "),
    "search_query": "the beatles, abbey road, rain sounds, classical music, the morning news, thriller, blue moon, "
    "some jazz, summer hits, the four seasons, bedtime stories, heroes, yellow submarine, radio drama".split(", "),
    "zone": "at home, at work, at school, at the gym, at the office".split(", "),
    "timer_name": "pizza, pasta, laundry, egg, tea, homework, nap, workout, bread, rice, cake, yoga".split(", "),
    "timer_command": "turn off the lights, open the blinds, lock the door, turn on the heating, stop the music, "
    "close the garage, start the vacuum, switch on the radio, turn off the fan".split(", "),
    "shopping_list_item": "milk, eggs, bread, apples, coffee, washing powder, butter, cheese, tomatoes, rice, tea, "
    "oat flakes, onions, toothpaste, olive oil, paper towels".split(", "),
    "todo_list_item": "water the plants, call the dentist, pay the rent, buy a present, fix the bike, feed the cat, "
    "book the train, clean the windows, renew the passport, write to anna, return the books".split(", "),
}
NAMES = {  # of a device or a person, by the kind that the template is for
    "light": "desk lamp, ceiling light, reading lamp, night light, fairy lights, floor lamp".split(", "),
    "fan": "ceiling fan, tower fan, extractor fan, desk fan".split(", "),
    "cover": "left blind, patio door, roller shutter, garage door, skylight, awning".split(", "),
    "valve": "water valve, sprinkler valve, radiator valve".split(", "),
    "lock": "front door, back door, garden gate, cellar door, garage lock".split(", "),
    "media_player": "television, radio, sonos, record player, soundbar, projector".split(", "),
    "climate": "heating, air conditioner, thermostat, heat pump".split(", "),
    "switch": "coffee maker, heater, kettle, dehumidifier, printer".split(", "),
    "vacuum": "robot vacuum, dusty, roomba".split(", "),
    "lawn_mower": "mower, robot mower, mowbot".split(", "),
    "todo": "holiday, work, weekend, garden, moving".split(", "),
    "weather": "berlin, london, new york, tokyo, toronto".split(", "),
    "person": "anna, ben, maria, tom, grandma, the plumber".split(", "),
    "binary_sensor": "window sensor, motion sensor, water leak sensor, smoke detector, cellar door".split(", "),
    "sensor": "outdoor thermometer, power meter, humidity sensor, rain gauge".split(", "),
    "scene": "movie night, good morning, party, dinner".split(", "),
    "script": "goodnight, wake up, leaving home".split(", "),
    "button": "doorbell, restart button, feeder button".split(", "),
}
_KINDS = {"input_boolean": "switch", "input_button": "button"}


class Grammar:
    """Writes sentences out of Home Assistant's templates, each choice at random.

    In a template, `(a|b)` is one of them, `[a]` or nothing, `(a;b)` both in either order, `{list}` or `{list:slot}` a
    value of a list, and `<rule>` another template.

    Args:
        lists: from a list's name to its values, templates too, or to a range of numbers.
        rules: from a rule's name to its template.
        random: where the chances come from.
    """

    def __init__(self, lists: dict, rules: dict[str, str], random: np.random.RandomState) -> None:
        self._lists, self._rules, self._random = lists, rules, random

    def write(self, template: str) -> str:
        """One sentence."""
        words, _ = self._group(template, 0, "")
        return re.sub(r"\s+", " ", words).strip()

    def _group(self, template: str, place: int, close: str) -> tuple[str, int]:
        """What stands from `place` to the bracket `close`, one of the alternatives of it; and where it ends."""
        choices, mark = [""], ""
        while place < len(template) and template[place] != close:
            sign = template[place]
            if sign in "([":
                inside, place = self._group(template, place + 1, ")" if sign == "(" else "]")
                choices[-1] += inside if sign == "(" or self._random.randint(2) else ""
            elif sign in "{<":
                end = template.index("}" if sign == "{" else ">", place)
                name = template[place + 1 : end]
                choices[-1] += self._value(name.split(":")[0]) if sign == "{" else self.write(self._rules[name])
                place = end
            elif sign in "|;":
                choices.append("")
                mark = sign
            elif sign in ")]":
                raise ValueError(f"no template: {template}")
            else:
                choices[-1] += sign
            place += 1
        if close and place == len(template):
            raise ValueError(f"no template: {template}")
        if mark == ";":
            self._random.shuffle(choices)
            return f" {' '.join(choices)} ", place
        return choices[self._random.randint(len(choices))], place

    def _value(self, name: str) -> str:
        values = self._lists[name]
        if "range" in values:
            numbers = range(values["range"]["from"], values["range"]["to"] + 1, values["range"].get("step", 1))
            return str(numbers[self._random.randint(len(numbers))])
        return self.write(values["values"][self._random.randint(len(values["values"]))]["in"])


def read_templates() -> tuple[list[tuple[str, str, tuple[str, ...]]], dict, dict[str, str]]:
    """What source `home-assistant-intents` holds in English, fetched if need be.

    Returns:
        The templates, each as its intent, its text, and the kinds of devices it is for; the lists; the rules.

    Raises:
        mmkit.ground.sources.SourceError: if its file does not hold them.
    """
    file = sources.fetch("home-assistant-intents") / "home_assistant_intents" / "data" / "en.json"
    with sources.reading("home-assistant-intents"):
        english = json.loads(file.read_text(encoding="utf-8"))
        templates = [
            (intent, sentence, tuple(block.get("requires_context", {}).get("domain", ())))
            for intent, blocks in english["intents"].items()
            for block in blocks["data"]
            for sentence in block["sentences"]
        ]
        return templates, english["lists"], english["expansion_rules"]


def split_templates(intents: list[str]) -> np.ndarray:
    """The split of each template, always the same: of each intent about 7, 1 and 2 of ten; of three, one each.

    An intent with two templates has one to train and one to test on; an intent with one only trains.

    Args:
        intents: the intent of each template.
    """
    random, splits = np.random.RandomState(20_260_202), np.full(len(intents), "train", dtype=object)
    for intent in dict.fromkeys(intents):
        places = random.permutation([i for i, other in enumerate(intents) if other == intent])
        test = max(1, round(len(places) / 5)) if len(places) > 1 else 0
        validation = max(1, round(len(places) / 10)) if len(places) > 2 else 0
        splits[places[:test]], splits[places[test : test + validation]] = "test", "validation"
    return splits


class Intents(KitBuilder):
    """Requests to a smart home, written out of the templates of Home Assistant's voice assistant.

    Example:
        >>> from mmkit.datasets import Intents
        >>> sorted(Intents(config="small").info.features)
        ['label', 'sentence_id', 'template', 'template_id', 'text']
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="small", description="about 120 sentences of an intent, built offline"),
        tfds.core.BuilderConfig(name="full", description="about 1,200 sentences of an intent, built offline"),
    ]
    SOURCES = {"small": ("home-assistant-intents",), "full": ("home-assistant-intents",)}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Requests to a smart home: `text`, and what is wanted, `label`. See data/intents.md.",
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(doc="the request"),
                    "label": tfds.features.ClassLabel(names=INTENTS),
                    "template": tfds.features.Text(doc="what the request was written out of"),
                    "template_id": tfds.features.Scalar(np.int32, doc="the number of the template in its source"),
                    "sentence_id": tfds.features.Scalar(np.int32, doc="the number of the request"),
                }
            ),
            supervised_keys=("text", "label"),
        )

    def _split_generators(self, dl_manager):
        templates, lists, rules = read_templates()
        with sources.reading("home-assistant-intents"):
            rows = sentences(templates, lists, rules, PER_INTENT[self.builder_config.name])
        place = split_templates([intent for intent, *_ in templates])
        return {
            split: self._generate_examples(
                [(number, row) for number, row in enumerate(rows) if place[row["template_id"]] == split]
            )
            for split in SPLITS
        }

    def _generate_examples(self, rows):
        for number, row in rows:
            yield number, row | {"sentence_id": number}


def sentences(templates: list, lists: dict, rules: dict[str, str], per_intent: int) -> list[dict]:
    """Requests written out of `templates`: no two the same, no more than a third of `per_intent` from one of them.

    Args:
        templates, lists, rules: as `read_templates` returns them.
        per_intent: how many of an intent, roughly; fewer where its templates hold fewer.
    """
    rows, known = [], set()
    counts = {intent: [one for one, *_ in templates].count(intent) for intent, *_ in templates}
    own = {name: {"values": [{"in": word} for word in words]} for name, words in WORDS.items()}
    for number, (intent, template, kinds) in enumerate(templates):
        names = [name for kind in kinds for name in NAMES.get(_KINDS.get(kind, kind), ())]
        names = names or [name for names in NAMES.values() for name in names]
        filled = lists | own | {"name": {"values": [{"in": name} for name in names]}}
        grammar = Grammar(filled, rules, np.random.RandomState([20_260_203, number]))
        wanted = int(np.clip(round(per_intent / counts[intent]), 2, per_intent // 3))
        for _ in range(20 * wanted):
            text = grammar.write(template)
            if text.lower() not in known:
                known.add(text.lower())
                rows.append({"text": text, "label": intent, "template": template, "template_id": number})
                wanted -= 1
                if not wanted:
                    break
    return rows
