"""Published weights to a model directory and back, and the table that says how."""

from __future__ import annotations

import dataclasses
from typing import Any

from flaxtl.config import ConvertConfig
from flaxtl.convert import hub
from flaxtl.convert.converting import Conversion, Converted, plan_conversion
from flaxtl.convert.export import Exported, export
from flaxtl.convert.loading import is_model, model_folder
from flaxtl.errors import ConfigError
from flaxtl.places import expanded

SAFETENSORS = ".safetensors"


@dataclasses.dataclass(frozen=True)
class Explained:
    """The table of a conversion, and its outcome if it was carried out. Print it."""

    conversion: Conversion
    outcome: Converted | None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON: {table: [{sources, shapes, operation, target, why}], …the outcome}."""
        weights = self.conversion.weights
        rows = [
            {
                "sources": list(step.sources),
                "shapes": [list(weights[n].shape) for n in step.sources],
                "operation": step.operation.name if step.target else None,
                "target": step.target.name if step.target else None,
                "why": step.why,
            }
            for step in self.conversion.steps
        ]
        outcome = self.outcome.to_dict() if self.outcome else {"notes": list(weights.notes)}
        return {"family": self.conversion.family.name, "table": rows, **outcome}

    def summary(self) -> str:
        """Returns the table as text."""
        table = self.conversion.explain()
        return f"{table}\n{self.outcome.summary()}" if self.outcome else table


def conversion(config: ConvertConfig) -> Converted | Exported | Explained:
    """Carries `flaxtl convert` out.

    Raises:
        ConfigError: a model that is to be converted again, or weights that are to be exported.
        CheckpointError: as of `convert` and `export`.
    """
    place = expanded(config.source)
    back = config.out.endswith(SAFETENSORS)
    if place.is_dir() and is_model(place):
        if not back:
            raise ConfigError(
                f"{place} is a model of flaxtl already. To go back to the source's names, give a file as OUT: "
                f"flaxtl convert {place} weights{SAFETENSORS}"
            )
        return export(model_folder(place), config.out, overwrite=config.overwrite)
    if back:
        raise ConfigError(
            f"OUT is {config.out}, a file, but a conversion writes a directory. "
            f"For example: flaxtl convert {config.source} models/mine"
        )
    planned = plan_conversion(hub.open_weights(config.source, config.ignore_settings))
    done = Converted(planned.save(config.out, overwrite=config.overwrite), planned) if config.out else None
    return Explained(planned, done) if config.explain or done is None else done
