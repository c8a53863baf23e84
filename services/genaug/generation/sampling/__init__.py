"""Sampling: requests, the sampling server, batches, receipts."""
