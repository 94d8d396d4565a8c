"""What all tests share."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.runtime", "tests.support.thrive"]

# On a busy machine every example is slow now and then.
settings.register_profile("without-time-limits", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("without-time-limits")
