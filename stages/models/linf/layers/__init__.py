"""Distance layers, one kind a file: a float32 module and the same layer as plain numbers.

`layers/<kind>.py` belongs to the settings of that `kind` in `linf/config.py` and defines `LAYER`,
a `DistanceLayer`, and `WEIGHTS`, a `Weights`.
"""
