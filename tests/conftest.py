"""What all tests share."""

pytest_plugins = ["tests.support.runtime", "tests.support.thrive"]
