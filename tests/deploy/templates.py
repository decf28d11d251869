"""CloudFormation's templates, filled in as CloudFormation does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
TEMPLATES = DEPLOY / "cloudformation"

ACCOUNT = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "123456789012",
}
NOTHING = object()
"""What AWS::NoValue leaves."""


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (`!Sub`) as their long ones."""


def _short(loader: Any, suffix: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short)


def read(name: str) -> dict[str, Any]:
    """Return a template."""
    told: dict[str, Any] = yaml.load((TEMPLATES / name).read_text(), _Loader)  # noqa: S506 (it is a safe one)
    return told


class Stack:
    """A template with its parameters. References to other resources stay as they are."""

    def __init__(self, template: Mapping[str, Any], **parameters: Any) -> None:
        self.template = template
        defaults = {
            name: told["Default"]
            for name, told in template.get("Parameters", {}).items()
            if "Default" in told
        }
        self.values = {**ACCOUNT, **defaults, **parameters}
        lists = {
            name
            for name, told in template.get("Parameters", {}).items()
            if told["Type"] == "CommaDelimitedList"
        }
        for name in lists & set(self.values):
            self.values[name] = str(self.values[name]).split(",")
        missing = set(template.get("Parameters", {})) - set(self.values)
        assert not missing, f"say what {missing} are"

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources that there are with these parameters, filled in."""
        return {
            name: self.fill(told)
            for name, told in self.template["Resources"].items()
            if "Condition" not in told or self.holds(told["Condition"])
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of a type."""
        return {
            name: told["Properties"]
            for name, told in self.resources.items()
            if told["Type"] == kind
        }

    def holds(self, condition: str) -> bool:
        """Tell whether a condition holds."""
        return bool(self.fill(self.template["Conditions"][condition]))

    def fill(self, value: Any) -> Any:
        """Return a value with its functions done."""
        if isinstance(value, list):
            return [inner for each in value if (inner := self.fill(each)) is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, told),) = value.items()
            if name == "Ref":
                return NOTHING if told == "AWS::NoValue" else self.values.get(told, value)
            if name.startswith("Fn::"):
                return self._function(name.removeprefix("Fn::"), told)
        filled = {name: self.fill(inner) for name, inner in value.items()}
        return {name: inner for name, inner in filled.items() if inner is not NOTHING}

    def _function(self, name: str, told: Any) -> Any:
        match name:
            case "Sub":
                text, names = told if isinstance(told, list) else (told, {})
                known = {**self.values, **{key: self.fill(each) for key, each in names.items()}}
                return re.sub(r"\$\{([\w:.]+)\}", lambda m: str(known.get(m[1], m[0])), text)
            case "If":
                return self.fill(told[1] if self.holds(told[0]) else told[2])
            case "Select":
                return self.fill(told[1])[int(told[0])]
            case "Split":
                return self.fill(told[1]).split(told[0])
            case "Join":
                return told[0].join(self.fill(told[1]))
            case "Equals":
                return self.fill(told[0]) == self.fill(told[1])
            case "Not":
                return not self.fill(told[0])
            case "GetAtt":
                return {"Fn::GetAtt": told}
        raise AssertionError(f"Fn::{name} is not known here")
