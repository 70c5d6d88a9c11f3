"""What the property-based tests of the project and of its plugins have in common."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A verdict must not depend on how busy the machine is, nor on what was drawn: every run tries the same examples, for as
# long as these take. Fixtures, such as the path of a kernel, are meant to be the same for all examples of a test.
settings.register_profile(
    "same",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", settings.get_profile("same"), max_examples=25)
settings.load_profile("same")
