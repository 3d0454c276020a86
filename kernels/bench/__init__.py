"""Times the operators: ``python -m kernels.bench``. Nothing imports it."""
