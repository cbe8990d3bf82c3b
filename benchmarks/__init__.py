"""Measurements of the ingest path; run with `python -m benchmarks.ingest`."""
