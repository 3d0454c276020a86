"""l_inf-distance networks: layers, certificates in floats and in integers, attacks, training rule."""
