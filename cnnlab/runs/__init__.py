"""Runs: one directory each, filled by training and only read by every other command."""
