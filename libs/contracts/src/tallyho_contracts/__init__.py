"""The messages of Tallyho: versioned, frozen models, and the registry that names them."""
