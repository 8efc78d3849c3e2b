"""How much of the made-up input tests try: all of it with pytest's `--hypothesis-profile=full`, else a fifth."""

from hypothesis import HealthCheck, settings


def scaled(full: int) -> int:
    """How many of so many cases the chosen profile tries, at least one."""
    return max(1, full * settings.default.max_examples // settings.get_profile("full").max_examples)


def on_shared_path(full: int) -> settings:
    """Of a property whose examples share a fixture, such as the folder that each writes its files to."""
    return settings(max_examples=scaled(full), suppress_health_check=[HealthCheck.function_scoped_fixture])
