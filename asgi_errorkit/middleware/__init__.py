"""The middlewares: each works alone, and side by side they share one exchange."""
