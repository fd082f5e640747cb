"""A model over HTTP: requests gathered into batches, limits, metrics, several versions, and a page to try it on."""
