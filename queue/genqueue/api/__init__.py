"""The REST API: one module per group of calls, `urls` puts them together."""
