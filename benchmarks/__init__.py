"""What the kit costs, measured beside doing without it and beside the design it replaces."""
