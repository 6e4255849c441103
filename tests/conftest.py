"""What every test may use: real servers, started on demand, and everybody who may ask."""

pytest_plugins = ["tests.servers", "tests.roles", "tests.manage"]
