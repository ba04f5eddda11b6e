"""The demo: an AI video API under real traffic, and the truth the kit tells about it."""
