"""What stages share about networks: architectures, normalisation, the file that hands one on."""
