"""Named configs: one file each, defining `config(preset: str = '') -> Config`."""
