"""l_inf-distance networks: layers, certificates, attack space, training rule."""
