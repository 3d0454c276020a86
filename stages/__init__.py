"""The stages of a pipeline; a stage is found by the name of its folder."""
