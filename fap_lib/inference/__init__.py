"""Prompts put to work on one's own images."""
