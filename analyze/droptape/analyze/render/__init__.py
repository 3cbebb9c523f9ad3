"""Showing answers to people: data in, text out."""
