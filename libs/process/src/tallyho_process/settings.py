"""Settings that every process has, and secrets from files."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

FILE = "_FILE"


class ProcessSettings(BaseSettings):
    """What an operator sets of any process, from the environment.

    Each setting NAME can be in the file that NAME_FILE names instead: passwords have no business in an environment.
    """

    health_host: str = Field(default="127.0.0.1", min_length=1, validation_alias="HEALTH_HOST")
    health_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        validation_alias="HEALTH_PORT",
        description="Of /healthz, /readyz and /metrics, which are not for the public; 0 for any free one.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what the caller gives, the environment, and the files that it names."""
        return init_settings, env_settings, FileSettings(settings_cls, os.environ)


class FileSettings(PydanticBaseSettingsSource):
    """Settings in the files that `environment` names."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._environment = environment

    def __call__(self) -> dict[str, Any]:
        """The settings found, as the model takes them. Raises ValidationError, which names the variable."""
        fields = self.settings_cls.model_fields
        names = {self._variable(field_name, field) for field_name, field in fields.items()}
        # A variable that ends in _FILE may be a setting of its own.
        in_files = {one: field for one, field in fields.items() if self._variable(one, field) + FILE not in names}
        found = (self.get_field_value(field, field_name) for field_name, field in in_files.items())
        return {key: value for value, key, _ in found if value is not None}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value in a setting's file, decoded as it would be in the environment, and the model's key for it."""
        name = self._variable(field_name, field)
        key = name if isinstance(field.validation_alias, str) else field_name
        try:
            text = value_of(name, self._environment) if name + FILE in self._environment else None
            return self.prepare_field_value(field_name, field, text, value_is_complex=False), key, False
        except ValueError as error:
            problem = PydanticCustomError("secret_file", "{problem}", {"problem": str(error)})
            raise ValidationError.from_exception_data(
                self.settings_cls.__name__, [InitErrorDetails(type=problem, loc=(name + FILE,), input=None)]
            ) from None

    def _variable(self, field_name: str, field: FieldInfo) -> str:
        alias = field.validation_alias
        return alias if isinstance(alias, str) else (self.config.get("env_prefix", "") + field_name).upper()


def value_of(name: str, environment: Mapping[str, str]) -> str | None:
    """The variable `name`, or what is in the file that `name`_FILE names; none when neither is set.

    Raises ValueError when both are, or when the file can't be read.
    """
    if name + FILE not in environment:
        return environment.get(name)
    if name in environment:
        raise ValueError(f"{name} is set, too")
    try:
        return Path(environment[name + FILE]).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ValueError(f"can't be read: {reason}") from None
