"""Runs side by side: what is read of their folders, and the page that shows it."""
