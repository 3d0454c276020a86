"""A loss of tests."""
