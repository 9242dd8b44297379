"""For all tests."""

from hypothesis import settings

# No test asserts a time, hypothesis' own default of 200 ms an example included.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
