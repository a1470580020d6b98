"""Experiments: one file each, defining `configs()` and `analyze()`. Installed as `lm_experiments`.

A file's header says its command, hardware, time and expected result.
"""
