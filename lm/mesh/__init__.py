"""The devices of a run and how arrays lie on them."""
