"""Dynamic batching of requests, and minibatches of a fixed size."""
