"""Runs stages: their order, their ranks, requests to stop."""
