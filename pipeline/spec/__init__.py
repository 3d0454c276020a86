"""A pipeline's YAML file: read, checked, spread over a sweep."""
