"""Settings in the files that the environment names."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict
from tallyho_process.settings import ProcessSettings


class Settings(ProcessSettings):
    model_config = SettingsConfigDict(env_prefix="WALKER_")

    url: str = Field(default="none", validation_alias="URL")
    contact: str = "nobody"
    speed: float = Field(default=1, gt=0)
    networks: tuple[str, ...] = ()
    keys: str = Field(default="", validation_alias="KEYS")
    keys_file: Path | None = Field(default=None, validation_alias="KEYS_FILE")


def in_file(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, text: str) -> Path:
    """Let the environment name a file with this setting."""
    file = folder / name
    file.write_text(text + "\n")
    monkeypatch.setenv(f"{name}_FILE", str(file))
    return file


def test_every_kind_of_setting_can_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (
        ("URL", "http://site/"),
        ("WALKER_CONTACT", "someone"),
        ("WALKER_SPEED", "2.5"),
        ("WALKER_NETWORKS", '["10.0.0.0/8", "fd00::/8"]'),
        ("HEALTH_PORT", "7"),
    ):
        in_file(monkeypatch, tmp_path, name, text)
    settings = Settings()

    assert (settings.url, settings.contact, settings.speed) == ("http://site/", "someone", 2.5)
    assert settings.networks == ("10.0.0.0/8", "fd00::/8")
    assert settings.health_port == 7


def test_setting_that_is_the_name_of_a_file_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = in_file(monkeypatch, tmp_path, "KEYS", "secret")
    settings = Settings()

    assert (settings.keys, settings.keys_file) == ("", file)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [("WALKER_SPEED", "0", "speed"), ("WALKER_NETWORKS", "10.0.0.0/8", "WALKER_NETWORKS_FILE")],
)
def test_file_with_what_can_not_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str, fault: str
) -> None:
    in_file(monkeypatch, tmp_path, name, text)
    with pytest.raises(ValidationError) as caught:
        Settings()

    assert caught.value.errors()[0]["loc"] == (fault,)


def test_setting_and_its_file_are_not_both_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_file(monkeypatch, tmp_path, "WALKER_CONTACT", "someone")
    monkeypatch.setenv("WALKER_CONTACT", "someone else")
    with pytest.raises(ValidationError, match="WALKER_CONTACT is set, too"):
        Settings()
