"""Records are dataclasses to whoever asks them, and cost a host no import."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass, replace

import pytest
from sortition.core.conditions import Condition
from sortition.core.model import Change, SnapshotVersion

VERSION = SnapshotVersion("store", 1, 2)


def test_a_record_is_what_its_fields_are():
    assert SnapshotVersion(store="store", epoch=1, version=2) == VERSION
    assert SnapshotVersion("store", 1, 3) != VERSION
    assert VERSION.__eq__(("store", 1, 2)) is NotImplemented
    assert len({VERSION, SnapshotVersion("store", 1, 2)}) == 1
    assert repr(VERSION) == "SnapshotVersion(store='store', epoch=1, version=2)"


def test_it_cannot_be_changed_and_holds_nothing_else():
    for name in ("version", "else"):
        with pytest.raises(AttributeError):
            setattr(VERSION, name, 3)
        with pytest.raises(AttributeError):
            delattr(VERSION, name)
    assert not hasattr(VERSION, "__dict__")


def test_what_is_missing_is_said_as_of_any_function():
    with pytest.raises(TypeError, match="epoch"):
        SnapshotVersion(store="store", version=1)  # type: ignore[call-arg]  # that is the test


def test_defaults_may_be_left_out():
    assert Change("store", 1, 1, 2) == Change("store", 1, 1, 2, {}, ())


def test_the_tools_for_dataclasses_take_it():
    assert is_dataclass(VERSION)
    assert is_dataclass(Condition)
    assert [field.name for field in fields(Condition)] == ["attribute", "operator", "values"]
    assert replace(VERSION, version=3) == SnapshotVersion("store", 1, 3)
    assert asdict(VERSION) == {"store": "store", "epoch": 1, "version": 2}


def test_it_can_be_copied_and_sent():
    assert copy.deepcopy(VERSION) == VERSION
    assert pickle.loads(pickle.dumps(VERSION)) == VERSION  # noqa: S301 (our own octets)


def test_a_host_imports_no_heavy_part_of_the_standard_library():
    script = "import sys, sortition; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)

    heavy = {"dataclasses", "inspect", "typing", "socket", "ssl", "json", "h11"}
    assert not heavy & set(done.stdout.split())
