"""The crawler: owns the frontier and the documents. Fetches, extracts, saves, publishes."""
