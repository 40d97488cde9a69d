"""Every data set and every source has its card."""

import re
from pathlib import Path

import pytest

from mmkit import datasets, pretrained
from mmkit.ground import sources

DATA = Path(__file__).resolve().parents[1] / "data"
OVERVIEW = (DATA / "README.md").read_text(encoding="utf-8")
WORDS_ALONE = ("intents", "reviews")  # there is nothing in them to draw


@pytest.mark.parametrize("name", sorted(datasets._BUILDERS))
def test_a_data_set_has_a_card_that_speaks_of_its_fields_and_splits(name, tmp_path):
    card = (DATA / f"{name}.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in OVERVIEW and f"({name}.md)" in OVERVIEW
    builder = datasets._BUILDERS[name](config="small", data_dir=tmp_path)
    assert f"| version | {builder.version} |" in card
    for field in builder.info.features:
        assert f"`{field}`" in card, f"the card does not explain the field {field}"
    for config in builder.builder_configs:
        assert f"`{config}`" in card
    for section in ("## Fields", "## What not to conclude"):
        assert section in card
    pictures = re.findall(r"!\[[^]]{10,}\]\((\w+\.png)\)", card)
    assert len(pictures) == (0 if name in WORDS_ALONE else 1)
    assert all((DATA / picture).stat().st_size < 60_000 for picture in pictures)


@pytest.mark.parametrize("name", sources.names())
def test_a_source_is_listed_as_it_is_pinned(name):
    source = sources.source(name)
    assert f"| `{name}` | {source.package} {source.version} | {source.holds} |" in OVERVIEW
    of_data = {
        name for builder in datasets._BUILDERS.values() for wanted in builder.SOURCES.values() for name in wanted
    }
    assert name in of_data | set(pretrained.SOURCES)


@pytest.mark.parametrize("name", pretrained.SOURCES)
def test_the_page_on_weights_speaks_of_each(name):
    page, source = (DATA / "weights.md").read_text(encoding="utf-8"), sources.source(name)
    assert "(weights.md)" in OVERVIEW
    assert f"`{name}`" in page and f"{source.package} {source.version}" in page and source.licence in page
