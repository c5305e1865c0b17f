"""The part of JSON Schema that the published schema uses."""

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
SILENT = {"type", "title", "description", "default", "format", "$schema", "$defs"}


def problems(value, schema, root, where="$"):
    """Return what does not fit a schema, as texts; raise `KeyError` for a keyword that is not known here."""
    kind = schema.get("type")
    if kind and not (
        isinstance(value, TYPES[kind]) and not (isinstance(value, bool) and kind in ("integer", "number"))
    ):
        return [f"{where}: {value!r} is not of type {kind}"]
    rules = {keyword: rule for keyword, rule in schema.items() if keyword not in SILENT}
    return [text for keyword, rule in rules.items() for text in KEYWORDS[keyword](value, rule, schema, root, where)]


def properties(value, rule, schema, root, where):
    return [
        text for key, each in value.items() if key in rule for text in problems(each, rule[key], root, f"{where}.{key}")
    ]


def required(value, rule, schema, root, where):
    return [f"{where}: {key} is missing" for key in rule if key not in value]


def additional(value, rule, schema, root, where):
    others = {key: each for key, each in value.items() if key not in schema.get("properties", {})}
    if isinstance(rule, dict):
        return [text for key, each in others.items() for text in problems(each, rule, root, f"{where}.{key}")]
    return [] if rule else [f"{where}: {key} is not expected" for key in others]


def items(value, rule, schema, root, where):
    if rule is False:
        return []
    rest = list(enumerate(value))[len(schema.get("prefixItems", ())) :]
    return [text for index, each in rest for text in problems(each, rule, root, f"{where}[{index}]")]


def prefix_items(value, rule, schema, root, where):
    pairs = enumerate(zip(value, rule, strict=False))
    return [text for index, (each, kind) in pairs for text in problems(each, kind, root, f"{where}[{index}]")]


def any_of(value, rule, schema, root, where):
    tried = [problems(value, each, root, where) for each in rule]
    return [] if any(not each for each in tried) else [text for each in tried for text in each]


def one_of(value, rule, schema, root, where):
    fitting = sum(not problems(value, each, root, where) for each in rule)
    return [] if fitting == 1 else [f"{where}: {fitting} of the schemas fit"]


def reference(value, rule, schema, root, where):
    return problems(value, root["$defs"][rule.removeprefix("#/$defs/")], root, where)


KEYWORDS = {
    "properties": properties,
    "required": required,
    "additionalProperties": additional,
    "items": items,
    "prefixItems": prefix_items,
    "minItems": lambda value, rule, *rest: [] if len(value) >= rule else [f"{len(value)} items"],
    "maxItems": lambda value, rule, *rest: [] if len(value) <= rule else [f"{len(value)} items"],
    "const": lambda value, rule, schema, root, where: [] if value == rule else [f"{where}: {value!r} is not {rule!r}"],
    "anyOf": any_of,
    "oneOf": one_of,
    "$ref": reference,
}
