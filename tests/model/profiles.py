"""How hard the models look: at few examples, always the same; with the profile "thorough" at many new ones."""

from hypothesis import HealthCheck, Phase, settings

THOROUGH = "thorough"

settings.register_profile(
    THOROUGH,
    max_examples=1_000,
    deadline=None,
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    # The database is a test's own and its examples share it: each begins with empty tables.
    suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow),
)


def examples(number: int) -> settings:
    """The settings of a model test: `number` examples that are always the same, or what the profile "thorough" says."""
    thorough = settings.get_profile(THOROUGH)
    if settings.get_current_profile_name() == THOROUGH:
        return thorough
    return settings(thorough, max_examples=number, derandomize=True, database=None)
