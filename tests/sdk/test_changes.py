"""What is held after a change is what the whole snapshot would have brought, at the cost of the
change: any sequence of them, valid or not."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from typing import Any

import pytest
import sortition
from hypothesis import given
from hypothesis import strategies as st
from sortition import snapshots
from sortition.core import evaluate
from sortition.core.model import Change, Flag, Gap, InvalidSnapshot, Snapshot
from sortition.snapshots import HeldFlags
from sortition.testing import client_with, snapshot_with

from tests.builders import a_flag, a_snapshot, flags_of, needs

IDS = [f"request-{i}" for i in range(40)]
KEYS = [f"f{i}" for i in range(6)]


def answers(held: HeldFlags) -> dict[str, list[Any]]:
    return {key: [s.compiled.choose(id).value for id in IDS] for key, s in held.now.all.items()}


def put(snapshot: Snapshot) -> HeldFlags:
    held = HeldFlags({})
    held.put(snapshot)
    return held


def change(snapshot: Snapshot, *flags: Flag, removed: tuple[str, ...] = ()) -> Change:
    held = snapshot.version
    return Change(
        *(held.store, held.epoch, held.version, held.version + 1), flags_of(*flags), removed
    )


@st.composite
def flags(draw: st.DrawFn) -> Flag:
    parents = draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    return a_flag(
        draw(st.sampled_from(KEYS)),
        draw(st.sampled_from([0, 30, 100])),
        variants=draw(
            st.sampled_from([{"on": True, "off": False}, {"on": "x", "off": "y"}, {"off": 1}])
        ),
        weights=draw(st.sampled_from([(("on", 1_000_000),), (("off", 1_000_000),)])),
        prerequisites=tuple(p for parent in parents for p in needs(parent)),
    )


def valid(flag: Flag) -> bool:
    return all(variant in flag.variants for variant, _ in flag.weights)


changes = st.tuples(
    st.lists(flags().filter(valid), max_size=3), st.lists(st.sampled_from(KEYS), max_size=2)
)


@given(st.lists(changes, max_size=12))
def test_any_changes_lead_to_what_the_snapshot_says(sequence: list[Any]):
    snapshot = a_snapshot()
    held = put(snapshot)
    for changed, removed in sequence:
        step = change(snapshot, *changed, removed=tuple(removed))
        try:
            snapshot = snapshot.apply(step)
        except InvalidSnapshot:
            before = held.now, answers(held)
            with pytest.raises(InvalidSnapshot):
                held.change(step)
            assert (held.now, answers(held)) == before
        else:
            held.change(step)
        assert held.now.version == snapshot.version
        assert held.now.snapshot() == snapshot
        fresh = put(snapshot)
        assert answers(held) == answers(fresh)
        assert held.now.switches.keys() == fresh.now.switches.keys()
        assert all(held.now.all[key] is each for key, each in held.now.switches.items())


def test_a_change_that_does_not_begin_here_is_a_gap():
    snapshot = a_snapshot(a_flag("a"))
    step = change(snapshot, a_flag("a", 100))
    for held in (HeldFlags({}), put(a_snapshot(a_flag("a"), version=2))):
        with pytest.raises(Gap):
            held.change(step)


def chain(length: int) -> list[Flag]:
    return [a_flag(KEYS[0]), *(a_flag(f"f{i}", 50, prerequisites=needs(f"f{i - 1}"))
                               for i in range(1, length))]  # fmt: skip


def test_what_stands_on_a_changed_flag_is_compiled_anew_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
):
    compiled: list[str] = []
    compile_flag = evaluate.compile_flag

    def counting(flag: Flag, *rest: Any) -> Any:
        compiled.append(flag.key)
        return compile_flag(flag, *rest)

    monkeypatch.setattr(snapshots, "compile_flag", counting)
    others = [a_flag(f"other-{i}", 50) for i in range(5000)]
    held = put(a_snapshot(*chain(4), *others))
    assert len(compiled) == 5004

    for changed, expected in (
        (a_flag("f0", 100), ["f0", "f1", "f2", "f3"]),
        (a_flag("other-7", 60), ["other-7"]),
        (a_flag("f3", 100, prerequisites=needs("f2")), ["f3"]),
    ):
        compiled.clear()
        keys = held.change(change(held.now.snapshot(), changed))  # type: ignore[arg-type]  # held
        assert sorted(compiled) == sorted(keys) == expected


def test_a_change_of_one_flag_costs_the_same_among_ten_thousand():
    # By the number of steps the interpreter takes: no clock is asked.
    def steps(among: int) -> int:
        flags = [a_flag(f"flag-{i}", 50) for i in range(among)]
        held = put(a_snapshot(*flags))
        step = change(a_snapshot(), a_flag("flag-7", 60))
        count = 0

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal count
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            held.change(step)
        finally:
            sys.settrace(before)
        return count

    assert steps(100) == steps(10_000)


def test_a_snapshot_of_the_same_flags_compiles_none_of_them_and_keeps_their_counts():
    client = client_with({"search": 100, "colour": {"variants": {"a": 1, "b": 2}, "rest": "b"}})
    before = dict(client._held.now.all)
    client.is_enabled("search", "a")

    client._put(snapshot_with({"search": 100, "colour": {"variants": {"a": 1, "b": 2}}}, 2))

    after = client._held.now.all
    assert after["search"] is before["search"]
    assert after["colour"] is not before["colour"]
    assert client._held.assignments() == {("search", "on"): 1}


def test_counts_survive_changes():
    client = client_with({"search": 30.0, "other": 50.0})
    told: Counter[tuple[str, str]] = Counter()
    for version in range(1, 9):
        for id in IDS:
            client.is_enabled("search", id)
        client._change(
            Change("testing", 1, version, version + 1,
                   snapshot_with({"search": 30.0 + version}).flags)
        )  # fmt: skip
        if version % 3 == 0:
            told.update(client._held.assignments())
    told.update(client._held.assignments())

    assert sum(told.values()) == 8 * len(IDS)


def test_a_handle_follows_changes():
    client = client_with({"search": 0})
    handle = client.flag("search")
    for version, share in enumerate((100, 0, 100), start=1):
        flags = snapshot_with({"search": share}).flags
        client._change(Change("testing", 1, version, version + 1, flags))
        assert handle("a") is client.is_enabled("search", "a") is (share == 100)
    client._change(Change("testing", 1, 4, 5, {}, ("search",)))
    assert handle("a", default=True) is True


def test_flags_that_change_together_are_seen_together():
    # Two flags always serve the same; whoever reads the set finds no moment at which they differ.
    client = client_with({"a": 0, "b": 0})
    stop = threading.Event()
    torn: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            held = client._held.now
            seen = {held.all[key].compiled.flag.share for key in ("a", "b")}
            if len(seen) != 1:
                torn.append(seen)

    reader = threading.Thread(target=read)
    reader.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for version in range(1, 400):
            share = version % 2 * 100
            flags = snapshot_with({"a": share, "b": share}).flags
            client._change(Change("testing", 1, version, version + 1, flags))
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        reader.join()

    assert not torn
    assert isinstance(client, sortition.Client)
