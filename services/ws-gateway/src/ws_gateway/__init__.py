"""The public edge of Tallyho: HTTP API, WebSocket and dashboard. It owns no database."""
