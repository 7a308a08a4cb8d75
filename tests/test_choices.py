"""The measurements of bench/choices.py still fit the sources that they replace, and the comments that name them."""

from __future__ import annotations

import importlib
import re
import sys

import pytest

from tests.test_house import KERNEL_ROOM, MODULES, PACKAGE

choices = pytest.importorskip("bench.choices", reason="the benchmarks are not installed")
EDITED = {
    f"{name}: {label}": variant
    for name, choice in choices.CHOICES.items()
    for label, variant in choice.variants.items()
    if variant.edits or variant.values
}
NAMED = re.compile(r"bench\.choices[\s#]+(\w+)")


@pytest.mark.parametrize("variant", EDITED.values(), ids=EDITED)
def test_what_is_replaced_is_there(variant):
    for edit in variant.edits:
        room = KERNEL_ROOM.parent if edit.file.startswith("kernels/") else PACKAGE
        assert (room / edit.file).read_text(encoding="utf-8").count(edit.old) == 1, edit
    for attribute in variant.values:
        module, _, leaf = attribute.rpartition(".")
        if module != "os" or sys.platform == "linux":
            assert hasattr(importlib.import_module(module), leaf), attribute


def test_every_variant_has_a_probe():
    for choice in choices.CHOICES.values():
        assert not choice.variants or choice.variants.keys() == choice.probes.keys()


def test_comments_name_choices_that_are_there():
    named = [name for file in MODULES.values() for name in NAMED.findall(file.read_text(encoding="utf-8"))]
    named.append("proof")  # kernels/checksums.py
    assert set(named) == choices.CHOICES.keys()
