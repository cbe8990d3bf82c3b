"""Registers the profile "thorough" before pytest looks for it: pytest tests/model --hypothesis-profile=thorough."""

import model.profiles  # noqa: F401  # registers
