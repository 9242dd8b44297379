"""A DAG's trigger form, made from the pydantic model that the step reads it with."""

from typing import Any

from airflow.sdk import Param
from pydantic import BaseModel


def form(model: type[BaseModel]) -> dict[str, Param]:
    """One field for each field of `model`: default, title, description and rules come from it."""
    schema = model.model_json_schema()
    fields = {}
    for name, rules in schema["properties"].items():
        rules = dict(rules)
        default = rules.pop("default", None)
        fields[name] = Param(default, **_flat(rules))
    return fields


def _flat(rules: dict[str, Any]) -> dict[str, Any]:
    """``anyOf: [date, null]`` as Airflow's form reads it: ``type: [string, null]`` with the rest beside it."""
    choices = rules.pop("anyOf", None)
    if choices:
        rules["type"] = [choice["type"] for choice in choices]
        for choice in choices:
            rules |= {key: value for key, value in choice.items() if key != "type"}
    return rules
