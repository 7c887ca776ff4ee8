"""Reads YAML files of settings; what is wrong with one becomes a sentence with the line."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from flaxtl.errors import ConfigError, shown


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys without a word; here they are refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # what is merged in may be set again
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                continue
            if key in seen:
                raise ConfigError(f"{shown(key)} is set twice, in lines {seen[key]} and {line}. Leave one of them out.")
            seen[key] = line
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[str, Any]:
    """Returns the settings that a YAML file holds; an empty file holds none.

    Raises:
        ConfigError: there is no such file, or it does not hold settings; the message names it, and the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        found = yaml.load(text, _Loader)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {path}.") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder; expected a YAML file of settings.") from error
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path} is not in UTF-8, first in line {line}. Save it as UTF-8.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is not readable YAML: {_reason(error)}.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else shown(found)
        raise ConfigError(f"{path} holds {kind}; expected settings as 'name: value', one a line.")
    odd = [key for key in found if not isinstance(key, str)]
    if odd:
        raise ConfigError(f"{path} has the key {shown(odd[0])}; expected the name of a setting.")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark, problem = error.problem_mark, error.problem or "it cannot be understood"
        tab = "'\\t'" in problem
        problem = "a tab, where YAML takes spaces alone" if tab else problem.replace("\n", " ")
        return f"{problem} (line {mark.line + 1}, column {mark.column + 1})"
    if isinstance(error, yaml.reader.ReaderError):
        return f"it holds the character {error.character:#x} at position {error.position}, which YAML does not allow"
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
