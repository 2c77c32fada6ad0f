"""Solved problems, each checked against an outside reference."""
