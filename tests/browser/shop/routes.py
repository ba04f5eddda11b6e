"""A hundred thousand routes of a shop, and how each has been asked for."""

MANY = {
    f"GET /v{i}/items/{{item}}": {
        "requests": (i * 7919) % 100_003 + 1,
        "failed": i % 7,
        "avg_duration": 0.01,
        "max_duration": 0.2,
        **dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9"), 0.05),
    }
    for i in range(100_000)
}
"""All numbers of requests differ: 100,003 is a prime."""
