"""Frozen records for a guest: what `dataclass(frozen=True, slots=True)` makes, without its import.

The standard library's `dataclasses` brings `inspect`, `ast`, `dis` and `tokenize` along, which is
more than the rest of this package together, and a host pays for it at each start. Records are
dataclasses to whoever asks them: `dataclasses.replace`, `asdict` and type checkers take them as
such.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it: `typing` costs a host three milliseconds
if TYPE_CHECKING:
    from typing import Any


class _Fields:
    """A record's `__dataclass_fields__`, made when `dataclasses` asks for them."""

    def __init__(self, fields: dict[str, str], defaults: dict[str, Any]) -> None:
        self._fields = fields
        self._defaults = defaults

    def __get__(self, record: object, kind: type) -> Any:
        import dataclasses  # noqa: PLC0415 (see above)

        described = [(name, of, self._field(name)) for name, of in self._fields.items()]
        made = dataclasses.make_dataclass(kind.__name__, described)
        fields = vars(made)["__dataclass_fields__"]
        kind.__dataclass_fields__ = fields  # type: ignore[attr-defined]  # from now on
        return fields

    def _field(self, name: str) -> Any:
        import dataclasses  # noqa: PLC0415 (see above)

        if name not in self._defaults:
            return dataclasses.field()
        # As a factory, for `dataclasses` takes whatever has no hash for mutable.
        default = self._defaults[name]
        return dataclasses.field(default_factory=lambda: default)


def _refuse(record: object, name: str, *value: object) -> None:
    raise AttributeError(f"cannot change {name!r}: a {type(record).__name__} is frozen")


def _setstate(record: Any, state: tuple[Any, ...]) -> None:
    for name, value in zip(record.__match_args__, state, strict=True):
        object.__setattr__(record, name, value)


def _eq(record: Any, other: Any) -> Any:
    if type(other) is not type(record):
        return NotImplemented
    return record.__getstate__() == other.__getstate__()


def _hash(record: Any) -> int:
    return hash(record.__getstate__())


def _repr(record: Any) -> str:
    fields = zip(record.__match_args__, record.__getstate__(), strict=True)
    told = ", ".join(f"{name}={value!r}" for name, value in fields)
    return f"{type(record).__qualname__}({told})"


def _record(kind: type) -> type:
    """Make a frozen record of a class whose annotations are its fields.

    Fields with a default come last; a default is never mutable.
    """
    fields: dict[str, str] = kind.__annotations__
    defaults = {name: vars(kind)[name] for name in fields if name in vars(kind)}
    given = ["self", *(f"{n}=_defaults[{n!r}]" if n in defaults else n for n in fields)]
    settled = "".join(f"\n    _set(self, {name!r}, {name})" for name in fields)
    made: dict[str, Any] = {"_defaults": defaults, "_set": object.__setattr__}
    values = "".join(f"self.{name}, " for name in fields)
    source = f"def __init__({', '.join(given)}):{settled}\ndef state(self): return ({values})"
    exec(source, made)  # noqa: S102 (a class's field names)
    body = {name: value for name, value in vars(kind).items() if name not in fields}
    for left in ("__dict__", "__weakref__"):
        body.pop(left, None)
    body |= {
        "__slots__": tuple(fields),
        "__match_args__": tuple(fields),
        "__dataclass_fields__": _Fields(fields, defaults),
        "__init__": made["__init__"],
        "__repr__": _repr,
        "__eq__": _eq,
        "__hash__": _hash,
        "__setattr__": _refuse,
        "__delattr__": _refuse,
        "__getstate__": made["state"],
        "__setstate__": _setstate,
    }
    return type(kind)(kind.__name__, kind.__bases__, body)


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 (for others to import)
else:

    def dataclass(*, frozen: bool, slots: bool) -> Any:
        """Return the decorator that makes a record: frozen, with slots, and nothing else."""
        if not (frozen and slots):
            raise TypeError("records are frozen and have slots")
        return _record
