"""How long the evening of the pictures is."""

TICKS = 60
