"""`--rules FILE`: alert rules in a separate file, for any profile."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path

from abhinaya.models.fields import Faults, build, setting
from abhinaya.models.toml import parse_toml
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.rules import RuleConfig, conflicts


@dataclass(frozen=True, slots=True)
class RuleFile:
    """Contents of a rule file."""

    rules: tuple[RuleConfig, ...] = setting(doc="when to raise an alert")


def with_rules(config: Config, path: Path | None) -> Config:
    """Return the config with the rules of a file added.

    Raises:
        ConfigError: names every fault of the file at once.

    """
    if path is None:
        return config
    rules, known = load_rules(path), {rule.name for rule in config.rules}
    texts = [
        f"rules[{i}].name = {rule.name!r} is the name of a rule of the profile"
        for i, rule in enumerate(rules)
        if rule.name in known
    ]
    if texts:
        raise ConfigError(f"rules {str(path)!r}", "; ".join(texts), "name each rule differently")
    return dataclasses.replace(config, rules=(*config.rules, *rules))


def load_rules(path: Path) -> tuple[RuleConfig, ...]:
    """Return the rules of a file, which contains only `[[rules]]`.

    Raises:
        ConfigError: names every fault at once.

    """
    subject = f"rules {str(path)!r}"
    try:
        table = parse_toml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(subject, reason, "docs/rules.md shows one") from error
    faults = Faults({})
    found = build(RuleFile, table, "", faults)
    texts = faults.texts or [text for text, _ in conflicts(found.rules)]
    if texts:
        raise ConfigError(subject, "; ".join(texts), "docs/rules.md says what a rule may hold")
    return found.rules
