"""A stand-in for a model behind a server that follows JSON schemas: whatever it says, the schema holds."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from tests.dataset_scripts.curation.chat_server import completion

COLORS = [
    "red",
    "blue",
    "green",
    "yellow",
    "white",
    "black",
    "brown",
    "pink",
    "purple",
    "gold",
    "teal",
    "beige",
    "grey",
]


def follow(schema: dict[str, Any], word: Any) -> Any:
    """A value of `schema`: objects with their required keys, arrays and strings within their bounds."""
    kind = schema["type"]
    if kind == "object":
        return {key: follow(schema["properties"][key], word) for key in schema["required"]}
    if kind == "array":
        least = schema.get("minItems", 1)
        return [follow(schema["items"], word) for _ in range(min(least + 1, schema.get("maxItems", least + 1)))]
    assert kind == "string", schema
    return word()[: schema.get("maxLength")].ljust(schema.get("minLength", 0), "x")


def small_model(request: dict[str, Any], number: int) -> Any:
    """Changes the color of the description, now and then the object; does not repeat what it is told was wrong.

    Without a schema it answers as small models do: objects, cut off.
    """
    user = request["messages"][1]["content"]
    text = re.search(r'Description: "([^"]*)"', user).group(1)
    told = set(re.findall(r'^- "([^"]*)":', user, re.MULTILINE))
    rng = random.Random(f"{text} {request['seed']} {len(told)}")
    form = request.get("response_format")
    if form is None:
        return completion('{"negatives": [{"color": "blue", "material": "wood"}, {"color": "gr', "length")

    def word() -> str:
        for _ in range(100):
            color = rng.choice(COLORS)
            said = re.sub(rf"\b({'|'.join(COLORS)})\b", color, text, count=1)
            said = said if rng.random() < 0.6 else f"a {color} dog"
            if said not in told:
                return said
        return text

    schema = form["json_schema"]["schema"] if form["type"] == "json_schema" else form["value"]
    return completion(json.dumps(follow(schema, word)))
