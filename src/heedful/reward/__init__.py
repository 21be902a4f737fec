"""Reward models: training, scoring, calibration."""
