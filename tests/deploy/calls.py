"""Every call of AWS that the code can make, found in its text; and who makes it.

A call is a string that names an operation, with its service before it or in the function that the
string is handed to (`self._aws.read("ecs", "list_clusters")`, `self._elb(rule, "describe_rules")`),
or an attribute of a client of boto3. Who makes it follows from which methods call which, from the
doors that a part knocks at. Where a receiver is not known every method of that name counts.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

ROOT = Path(__file__).parents[2]

Call = tuple[str, str]
"""(service, operation) in boto3's words: `elbv2`, `describe_rules`."""

SERVICES = (
    *("appmesh", "cloudwatch", "codedeploy", "ecs", "elbv2"),
    *("s3", "secretsmanager", "sqs", "sts"),
)
"""Those that are called. Another one in the code fails: it is not known here."""


@cache
def model(service: str) -> Any:
    """Return botocore's own model of a service."""
    return botocore.session.get_session().get_service_model(service)


@cache
def operations(service: str) -> Mapping[str, str]:
    """Return operation as boto3 names it -> as AWS does."""
    return {xform_name(name): name for name in model(service).operation_names}


@cache
def prefix(service: str) -> str:
    """Return the first part of a service's actions in a policy: its endpoint's, but for one."""
    endpoint: str = model(service).endpoint_prefix
    return {"monitoring": "cloudwatch"}.get(endpoint, endpoint)


ACTIONS: Mapping[Call, str | None] = {
    # To say who one is needs no permission.
    ("sts", "get_caller_identity"): None,
    ("s3", "list_object_versions"): "s3:ListBucketVersions",
    # Of a version that is named.
    ("s3", "get_object"): "s3:GetObjectVersion",
    # A batch is allowed as each of its parts.
    ("sqs", "delete_message_batch"): "sqs:DeleteMessage",
}
"""Calls whose action has not their own name."""


def action(call: Call) -> str | None:
    """Return the action of a policy that a call needs, None for none."""
    service, operation = call
    if call in ACTIONS:
        return ACTIONS[call]
    return f"{prefix(service)}:{operations(service)[operation]}"


@dataclass
class Function:
    """What one function calls: of AWS, and of ours by name. owner: its class, or ""."""

    module: str
    owner: str
    name: str
    aws: set[Call] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    """Methods of the same class."""
    others: set[str] = field(default_factory=set)
    """Methods of whatever else."""
    plain: set[str] = field(default_factory=set)
    """Functions."""


WAYS_OUT = ("flagserver.aws", "boto3")
"""Whoever calls AWS imports one of them."""

FORMATTED: Mapping[str, Sequence[Call]] = {
    "put_{}_alarm": (("cloudwatch", "put_metric_alarm"), ("cloudwatch", "put_composite_alarm")),
}
"""Operations that are put together: their text, with {} for what is filled in -> what it can be."""


class Code:
    """The functions of some modules."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.functions: list[Function] = []
        self.unplaced: list[str] = []
        """Names of operations that stand in the text, and of which no call was made out."""
        self._wrappers: dict[str, str] = {}
        texts = {str(file.relative_to(ROOT)): file.read_text() for file in sorted(files)}
        trees = {
            name: ast.parse(text)
            for name, text in texts.items()
            if any(way in text for way in WAYS_OUT)
        }
        for tree in trees.values():
            self._find_wrappers(tree)
        for name, tree in trees.items():
            self._read(name, tree)

    def reached(self, doors: Iterable[str], within: Sequence[str] = ("",)) -> set[Call]:
        """Return what is called by any method or function of these names, and whatever those call.

        within: how the modules' names begin whose methods are meant.
        """
        known = [f for f in self.functions if f.module.startswith(tuple(within))]
        wanted = set(doors)
        todo = [function for function in known if function.name in wanted]
        seen: set[int] = set()
        found: set[Call] = set()
        while todo:
            function = todo.pop()
            if id(function) in seen:
                continue
            seen.add(id(function))
            found |= function.aws
            todo += [other for other in known if _calls(function, other)]
        return found

    def made(self) -> set[Call]:
        """Return every call."""
        return {call for function in self.functions for call in function.aws}

    def _find_wrappers(self, tree: ast.Module) -> None:
        """Remember functions that are handed an operation of one service: `_elb`."""
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef):
                continue
            named = {a.arg for a in node.args.args}
            for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
                names = {a.id for a in call.args if isinstance(a, ast.Name)}
                services = [text for text in _texts(call.args) if text in SERVICES]
                if services and "operation" in names & named:
                    self._wrappers[node.name] = services[0]

    def _read(self, module: str, tree: ast.Module) -> None:
        placed: set[int] = set()
        whole = Function(module, "", "")
        self.functions.append(whole)
        for owner, node in _functions(tree):
            function = Function(module, owner, node.name)
            self.functions.append(function)
            self._fill(function, node, placed)
        self._fill(whole, tree, placed, top=True)
        for place in ast.walk(tree):
            if not isinstance(place, ast.Constant) or id(place) in placed:
                continue
            if _names_one(place.value):
                self.unplaced.append(f"{module}:{place.lineno} {place.value!r}")

    def _fill(
        self, function: Function, node: ast.AST, placed: set[int], *, top: bool = False
    ) -> None:
        clients = _clients(node)
        for inner in ast.walk(node):
            if isinstance(inner, (ast.Call, ast.Tuple)):
                function.aws |= self._of_texts(inner, placed)
            if isinstance(inner, ast.JoinedStr):
                function.aws |= set(FORMATTED.get(_form(inner), ()))
            if isinstance(inner, ast.Call) and not top:
                function.aws |= _of_client(inner, clients)
                _note_callee(function, inner)

    def _of_texts(self, node: ast.Call | ast.Tuple, placed: set[int]) -> set[Call]:
        parts = node.args if isinstance(node, ast.Call) else node.elts
        texts = _texts(parts)
        service = next((text for text in texts if text in SERVICES), None)
        service = service or self._wrappers.get(_callee(node))
        if service is None:
            return set()
        found = {text: at for text, at in texts.items() if text in operations(service)}
        placed |= set(found.values())
        return {(service, text) for text in found}


def _calls(function: Function, other: Function) -> bool:
    if other.name in function.own and (other.module, other.owner) == (
        function.module,
        function.owner,
    ):
        return True
    if other.name in function.plain and not other.owner:
        return True
    return other.name in function.others and bool(other.owner)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield "", node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield node.name, inner


def _note_callee(function: Function, call: ast.Call) -> None:
    callee = call.func
    if isinstance(callee, ast.Name):
        function.plain.add(callee.id)
    elif isinstance(callee, ast.Attribute):
        on = ast.unparse(callee.value)
        if on == "self":
            function.own.add(callee.attr)
        elif on not in {"self._aws", "aws"}:
            # Our own way to AWS is named like doors of ours (`read`), and calls none of them.
            function.others.add(callee.attr)
    # What is handed on may be called there.
    for argument in call.args:
        if isinstance(argument, ast.Attribute) and ast.unparse(argument.value) == "self":
            function.own.add(argument.attr)
        elif isinstance(argument, ast.Name):
            function.plain.add(argument.id)


def _callee(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            return node.func.attr
        if isinstance(node.func, ast.Name):
            return node.func.id
    return ""


def _texts(parts: Sequence[ast.expr]) -> dict[str, int]:
    """Return text -> the id of its node, of the texts among some arguments or elements."""
    return {
        part.value: id(part)
        for part in _flat(parts)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def _flat(parts: Sequence[ast.expr]) -> Iterator[ast.expr]:
    for part in parts:
        inner = part.value if isinstance(part, ast.Starred) else part
        if isinstance(inner, ast.Tuple):
            yield from _flat(inner.elts)
        else:
            yield inner


def _clients(node: ast.AST) -> Mapping[str, str]:
    """Return variable -> service of clients that are made with boto3 itself."""
    found: dict[str, str] = {}
    for inner in ast.walk(node):
        if not (isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Call)):
            continue
        if ast.unparse(inner.value.func) == "boto3.client":
            (service,) = _texts(inner.value.args)
            assert service in SERVICES, f"{service} is not known here"
            found |= {t.id: service for t in inner.targets if isinstance(t, ast.Name)}
    return found


def _of_client(call: ast.Call, clients: Mapping[str, str]) -> set[Call]:
    callee = call.func
    if isinstance(callee, ast.Attribute) and isinstance(callee.value, ast.Name):
        service = clients.get(callee.value.id)
        if service is not None:
            return {(service, callee.attr)}
    return set()


def _form(text: ast.JoinedStr) -> str:
    return "".join(
        part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "{}"
        for part in text.values
    )


def _names_one(value: object) -> bool:
    """Tell whether a text names an operation of any service, and hardly anything else."""
    return (
        isinstance(value, str)
        and "_" in value
        and any(value in operations(service) for service in SERVICES)
    )


def doors(files: Iterable[Path], receivers: Sequence[str]) -> Mapping[str, set[str]]:
    """Return file -> methods that are called on any of these receivers: `self._drivers[…]`, or a
    variable of that name."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                on = ast.unparse(node.func.value)
                if any(on == each or on.startswith(f"{each}[") for each in receivers):
                    found[file.name].add(node.func.attr)
    return found
