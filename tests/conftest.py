"""What every test may use: real servers, started on demand."""

pytest_plugins = ["tests.servers", "tests.manage"]
