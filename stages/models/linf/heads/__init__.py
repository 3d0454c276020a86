"""What turns the last hidden layer's outputs into logits, one kind a file.

`heads/<kind>.py` belongs to the settings of that `kind` in `linf/config.py` and defines `HEAD`, a
`Head`, and `INTEGER_HEAD`, the same head behind a network of whole numbers.
"""
