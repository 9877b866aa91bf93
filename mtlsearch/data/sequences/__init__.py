"""Measurements at irregular moments → regular steps, and what a whole sequence amounts to."""
